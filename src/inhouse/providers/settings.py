"""How long an endpoint may take, and how often it is asked again."""

from pydantic import Field, NonNegativeInt, PositiveFloat

from inhouse.common.settings import Settings


class LimitSettings(Settings):
    """Limits of one request, in seconds, and its retries."""

    connect_timeout: PositiveFloat = Field(default=10.0, description="seconds to connect")
    first_token_timeout: PositiveFloat = Field(default=120.0, description="seconds until the first token")
    silence_timeout: PositiveFloat = Field(default=60.0, description="seconds between two tokens")
    whole_timeout: PositiveFloat = Field(default=600.0, description="seconds for one answer from start to end")
    retries: NonNegativeInt = Field(default=4, description="how often one request is asked again")
    longest_wait: PositiveFloat = Field(
        default=120.0, description="seconds before asking again; where the endpoint asks for more, the request fails"
    )
