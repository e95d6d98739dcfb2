"""What a recipe says about checkpoints."""

from pathlib import PurePath

from pydantic import Field, PositiveInt, field_validator

from inhouse.common.settings import Settings


class CheckpointSettings(Settings):
    """How often training is saved, and what of it stays."""

    checkpoint_every: PositiveInt = Field(default=200, description="steps between checkpoints")
    keep_every: PositiveInt | None = Field(
        default=None, description="the last checkpoint of every so many steps is kept for good; default: none"
    )
    local_checkpoints: str | None = Field(
        default=None,
        min_length=1,
        description="folder on a disk of each machine for checkpoints in between, from which a restart with the same "
        "machines and layout goes on; default: none",
    )
    local_every: PositiveInt = Field(default=20, description="steps between checkpoints in local_checkpoints")

    @field_validator("local_checkpoints")
    @classmethod
    def _is_absolute(cls, folder: str | None) -> str | None:
        if folder is not None and not PurePath(folder).is_absolute():
            raise ValueError(f"{folder} is no absolute path, such as /local/checkpoints")
        return folder
