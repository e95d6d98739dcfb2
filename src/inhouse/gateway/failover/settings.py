"""How long a failing provider is waited for, how often it is asked again, and how a broken stream is mended."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings


class FailoverSettings(Settings):
    """What happens when a provider fails. Times in seconds."""

    stream_recovery: Literal["hold", "resume", "off"] = Field(
        default="hold",
        description="hold: text is sent once the answer is whole; resume: at once, and a broken stream goes on "
        "elsewhere where it can; off: at once, and a broken stream ends with an error",
    )
    first_ping: PositiveFloat = Field(
        default=20.0,
        description="seconds after which a stream that has nothing of its answer yet begins all the same, with a sign "
        "of life: what fails before that has an HTTP status, what fails later is an event of the stream",
    )
    first_token: PositiveFloat = Field(
        default=10.0,
        description="seconds until the first token while somebody else could be asked; a provider whose own limits say "
        "first_token_timeout, and a request that asks for thinking, are waited for as the provider's limits say",
    )
    silence: PositiveFloat = Field(
        default=10.0, description="seconds between two tokens while somebody else could be asked; likewise"
    )
    whole: PositiveFloat = Field(default=600.0, description="seconds of one call, all its attempts together")
    retries: NonNegativeInt = Field(default=1, description="how often one target is asked again within one call")
    first_wait: NonNegativeFloat = Field(
        default=0.25, description="seconds before it is asked again where it says nothing; doubled each time"
    )
    longest_wait: NonNegativeFloat = Field(
        default=5.0, description="seconds that a call waits for a target that asks to be left alone; else the next"
    )
    hedge_after: NonNegativeFloat = Field(
        default=0.0, description="seconds without a first token until the next target is asked besides; 0: never"
    )
    breaker_failures: PositiveInt = Field(
        default=3, description="failures in a row after which a target is asked last only"
    )
    breaker_pause: PositiveFloat = Field(
        default=5.0, description="seconds until one call may try it again; doubled each time that this fails"
    )
    breaker_longest_pause: PositiveFloat = Field(default=30.0, description="seconds, the longest of these pauses")
