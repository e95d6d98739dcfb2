"""What a recipe says about faults."""

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings


class ResilienceSettings(Settings):
    """What is a fault, and what is done about it."""

    max_skipped_steps: PositiveInt = Field(default=8, description="steps in a row that are not finite: then it stops")
    spike_window: PositiveInt = Field(default=64, description="last losses that a spike is measured against")
    spike_deviations: PositiveFloat = Field(default=10.0, description="above the highest of the window: a spike")
    digest_every: PositiveInt = Field(default=100, description="steps between comparisons of the replicas' bits")
    grace_seconds: PositiveFloat = Field(default=25.0, description="from SIGTERM to the end of the last checkpoint")
