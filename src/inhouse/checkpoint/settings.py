"""What a recipe says about checkpoints."""

from pydantic import Field, PositiveInt

from inhouse.common.settings import Settings


class CheckpointSettings(Settings):
    """How often training is saved, and what of it stays."""

    checkpoint_every: PositiveInt = Field(default=200, description="steps between checkpoints")
    keep_every: PositiveInt | None = Field(
        default=None, description="the last checkpoint of every so many steps is kept for good; default: none"
    )
