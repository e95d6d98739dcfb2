"""The strict base of every settings type: unknown keys and bad values are errors."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings; an unknown key, a wrong type or a value out of range raises `pydantic.ValidationError`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
