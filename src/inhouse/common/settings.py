"""The strict base of every settings type: unknown keys and bad values are errors."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema

_SCALARS = {"int", "float", "bool", "str"}
_LARGEST = 2**63 - 1  # what arrays and files hold


def _be_strict(schema: Any) -> None:
    """Make every scalar in a core schema, nested ones included, refuse what it would have to convert or cannot hold."""
    if isinstance(schema, dict):
        if schema.get("type") in _SCALARS:
            schema["strict"] = True
        if schema.get("type") == "int":
            schema["le"] = min(schema.get("le", _LARGEST), _LARGEST)
        for part in schema.values():
            _be_strict(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            _be_strict(part)


class Settings(BaseModel):
    """Frozen settings; an unknown key, a wrong type or a value out of range raises `pydantic.ValidationError`.

    Types are meant: `"4096"`, `4096.0` and `true` are no whole numbers, infinity and NaN no numbers. A whole number may
    stand where any number may, a list where a tuple, a text where a path.

    `beside_the_result` names the fields that change no result: names, places, how many processes, how often something
    is looked at. A stage is not made anew for them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    beside_the_result: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler, /) -> CoreSchema:
        # pydantic's own `strict` would refuse lists, which are all that TOML and JSON have, for tuples
        schema = handler(source)
        _be_strict(schema)
        return schema
