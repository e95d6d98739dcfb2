"""What a recipe says about checkpoints."""

from pydantic import Field, PositiveInt

from inhouse.common.settings import Settings


class CheckpointSettings(Settings):
    """How often training is saved."""

    checkpoint_every: PositiveInt = Field(default=200, description="steps between checkpoints")
