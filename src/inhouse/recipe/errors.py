"""Where in a recipe a mistake stands, and the one sentence that says what it is and what was meant."""

import difflib
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

Location = tuple[str | int, ...]


class Positions(NamedTuple):
    """Says where in a recipe's file, or in which override, a key stands."""

    kind: type[BaseModel]
    path: Path
    text: str
    document: dict[str, Any]
    overridden: dict[Location, str]

    def of(self, location: Location) -> str:
        """`--set KEY=VALUE`, or file and line; where nothing was written for the key, of the table around it."""
        for length in range(len(location), 0, -1):
            part = location[:length]
            for overridden, text in self.overridden.items():
                if overridden == part or (length == len(location) and overridden[:length] == part):
                    return f"--set {text}"
            if line := self._line(part):
                return f"{self.path}, line {line}"
        return str(self.path)

    def _line(self, location: Location) -> int | None:
        """The line on which a key's value starts: the one after the last that parses without the key.

        TOML read line by line parses at every line's end except inside a value of several lines.
        """
        lines, last_parsed = self.text.splitlines(), 0
        for number in range(1, len(lines) + 1):
            try:
                document = tomllib.loads("\n".join(lines[:number]))
            except tomllib.TOMLDecodeError:
                continue
            if _holds(document, location):
                return last_parsed + 1
            last_parsed = number
        return None


def _holds(value: Any, location: Location) -> bool:
    for key in location:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return False
    return True


def sentences(error: ValidationError, positions: Positions) -> str:
    """Every mistake that pydantic found, one line each; what only follows from a mistake inside it is left out."""
    locations = [detail["loc"] for detail in error.errors()]

    def is_cause(location: Location) -> bool:
        return not any(other != location and other[: len(location)] == location for other in locations)

    return "\n".join(_sentence(dict(detail), positions) for detail in error.errors() if is_cause(detail["loc"]))


def _sentence(detail: dict[str, Any], positions: Positions) -> str:
    """One pydantic error as one line: position, key, what is wrong, what to do."""
    location = _in_document(detail["loc"], positions.document, detail["type"])
    *holder, key = location or ("recipe",)
    position, section = positions.of(location), _section(tuple(holder))
    if detail["type"] == "extra_forbidden":
        known = _keys_at(positions.kind, tuple(holder))
        near = difflib.get_close_matches(str(key), known, n=1)
        remedy = f'did you mean "{near[0]}"?' if near else f"it has {', '.join(known)}"
        return f'{position}: {section} has no key "{key}"; {remedy}'
    if detail["type"] == "missing":
        return f'{position}: {section} needs the key "{key}"'
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if detail["loc"][-1:] == ("[key]",):  # of a mapping
        return f"{position}: {section}: {message}"
    value = detail["input"]
    if isinstance(value, dict | list | BaseModel):
        name = f"[{'.'.join(map(str, location))}]" if location else "the recipe"
        return f"{position}: {name}: {message}"
    return f"{position}: {f'{section} ' * bool(holder)}{key} = {_as_toml(value)}: {message}"


def _in_document(location: Location, document: dict[str, Any], kind: str) -> Location:
    """A pydantic location without the names of union members, which are not keys that the user wrote."""
    kept: Location = ()
    for i, key in enumerate(location):
        is_new_key = kind == "missing" and i == len(location) - 1
        if is_new_key or _holds(document, (*kept, key)):
            kept = (*kept, key)
    return kept


def _section(location: Location) -> str:
    return f"[{'.'.join(str(key) for key in location)}]" if location else "the top of the recipe"


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that the settings at `location` know."""
    models = [model]
    for key in location:
        if isinstance(key, str):
            fields = [m.model_fields[key] for m in models if key in m.model_fields]
            models = [found for field in fields for found in _models_in(field.annotation)]
    return sorted({name for m in models for name in m.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The settings types inside an annotation such as `tuple[Source, ...]` or `A | B | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
