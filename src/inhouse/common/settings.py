"""The strict base of every settings type: unknown keys and bad values are errors."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings; an unknown key, a wrong type or a value out of range raises `pydantic.ValidationError`.

    `beside_the_result` names the fields that change no result: names, places, how many processes, how often something
    is looked at. A stage is not made anew for them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    beside_the_result: ClassVar[frozenset[str]] = frozenset()
