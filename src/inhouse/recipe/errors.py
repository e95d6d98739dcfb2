"""Where in a TOML file of settings a mistake stands, and the one sentence that says what it is and what was meant."""

import difflib
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from inhouse.recipe.lines import Location, key_lines
from inhouse.recipe.meant import Meant, meant_elsewhere, meant_in

_RECIPE = "recipe"  # whose keys other programs have names for (`meant`)
_LONGEST, SENTENCE = 60, 400  # letters: of a value or key that a sentence shows, and of a sentence

# by pydantic's name of the mistake; braces: its context
_WORDS = {
    "int_type": "needs a whole number",
    "float_type": "needs a number",
    "finite_number": "needs a finite number",
    "bool_type": "needs true or false",
    "string_type": "needs a text in quotes",
    "string_unicode": "is no valid text",
    "path_type": "needs a path in quotes",
    "tuple_type": "needs a list: [ … ]",
    "list_type": "needs a list: [ … ]",
    "dict_type": "needs a table: {{ … }}",
    "model_type": "needs a table: {{ … }}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have {min_length} or more letters",
    "string_too_long": "must have {max_length} or fewer letters",
    "too_short": "needs {min_length} or more entries",
    "too_long": "takes {max_length} or fewer entries",
}
_QUOTED = {"int_type": str.isdecimal, "float_type": str.isdecimal, "bool_type": {"true", "false"}.__contains__}
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "must begin with a letter or digit; the rest may be letters, digits, . _ and -",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$": "must begin with a letter or digit; the rest may be letters, digits, . _ and -",
    r"^[\w.-]+$": "may hold letters, digits, . _ and - only",
    r"^\S*$": "must hold no space",
}


@dataclass(frozen=True)
class Positions:
    """Says where in a file, or in which override, a key stands. `noun` is what the file is called."""

    kind: type[BaseModel]
    path: Path
    text: str
    document: dict[str, Any]
    overridden: dict[Location, str] = field(default_factory=dict)
    noun: str = _RECIPE

    def of(self, location: Location) -> str:
        """`--set KEY=VALUE`, or file and line; where nothing was written for the key, of the table around it."""
        for length in range(len(location), 0, -1):
            part = location[:length]
            for overridden, text in self.overridden.items():
                if overridden == part or (length == len(location) and overridden[:length] == part):
                    return f"--set {short(text)}"
            if line := self._lines.get(part):
                return f"{self.path}, line {line}"
        return str(self.path)

    @cached_property
    def _lines(self) -> dict[Location, int]:
        return key_lines(self.text)


def sentences(error: ValidationError, positions: Positions) -> str:
    """Every mistake that pydantic found, one line each; what only follows from another is left out.

    So does a mistake of what lies around one, and a missing key of one that is misspelt beside it.
    """
    details = error.errors(include_url=False)
    holders = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    misspelt = {
        (*holder, _suggested(positions, tuple(holder), str(key)))
        for *holder, key in (detail["loc"] for detail in details if detail["type"] == "extra_forbidden")
    }
    lines = [
        _sentence(dict(detail), positions)
        for detail in details
        if detail["loc"] not in holders and not (detail["type"] == "missing" and detail["loc"] in misspelt)
    ]
    return "\n".join(dict.fromkeys(lines))


def words(detail: Mapping[str, Any]) -> str:
    """What is wrong with a value, in our words: pydantic's speak of inputs and instances."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"must match the pattern {context['pattern']}")
    if kind == "value_error":
        return short(str(context["error"]), SENTENCE)
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), chr(34))}"
    text = _WORDS.get(kind, "does not fit here").format_map(context)
    if kind == "int_type" and isinstance(value, float) and math.isfinite(value) and value == int(value):
        return f"{text}: write {int(value):_}"
    if isinstance(value, str) and kind in _QUOTED and _QUOTED[kind](value):
        return f"{text}, without quotes"
    return text


def _sentence(detail: dict[str, Any], positions: Positions) -> str:
    """One pydantic error as one line: position, key, what is wrong, what to do."""
    location = _in_document(detail["loc"], positions.document, detail["type"])
    *holder, key = location or (positions.noun,)
    position, section = positions.of(location), _section(tuple(holder), positions.noun)
    if detail["type"] == "extra_forbidden":
        return f"{position}: {section} has no key {_as_toml(str(key))}; {_remedy(positions, tuple(holder), str(key))}"
    if detail["type"] == "missing":
        return f'{position}: {section} needs the key "{key}"'
    if detail["loc"][-1:] == ("[key]",):  # of a mapping
        return f"{position}: {section}: {words(detail)}"
    value = detail["input"]
    if isinstance(value, dict | list | tuple | BaseModel):
        name = _section(location, positions.noun) if location else f"the {positions.noun}"
        return f"{position}: {name}: {words(detail)}"
    return f"{position}: {f'{section} ' * bool(holder)}{short(str(key))} = {_as_toml(value)}: {words(detail)}"


def _remedy(positions: Positions, holder: Location, tried: str) -> str:
    """What to write instead of a key that the table at `holder` does not have."""
    section = ".".join(key for key in holder if isinstance(key, str))
    known = keys_at(positions.kind, holder)
    if meant := _meant(positions, section, tried):
        return _meaning(meant, section)
    if len(holder) <= 1 and (at := _tables_with(positions.kind, tried)):
        return f"it stands in {' and '.join(f'[{name}]' for name in at)}"
    if near := _suggested(positions, holder, tried):
        return f'did you mean "{near}"?'
    if positions.noun == _RECIPE and (meant := meant_elsewhere(tried)):
        return _meaning(meant, section)
    return f"it has {', '.join(known)}" if known else "it takes none"


def _suggested(positions: Positions, holder: Location, tried: str) -> str | None:
    """The key of the table at `holder` that whoever wrote `tried` meant, where there is one."""
    section = ".".join(key for key in holder if isinstance(key, str))
    if (meant := _meant(positions, section, tried)) and meant.section == section:
        return meant.key
    return next(iter(difflib.get_close_matches(tried[:_LONGEST], keys_at(positions.kind, holder), n=1)), None)


def _meant(positions: Positions, section: str, tried: str) -> Meant | None:
    return meant_in(section, tried) if positions.noun == _RECIPE else None


def _meaning(meant: Meant, section: str) -> str:
    table = f"[{meant.section}] " * (meant.section not in ("", section))
    key = meant.key if meant.section else f"[{meant.key}]" if not meant.what else meant.key
    return f"you mean {table}{key}" + (f", which {meant.what}" if meant.what else "")


def _tables_with(kind: type[BaseModel], key: str) -> list[str]:
    """The tables of the file that know a key."""
    return [name for name in kind.model_fields if key in keys_at(kind, (name,))]


def _in_document(location: Location, document: dict[str, Any], kind: str) -> Location:
    """A pydantic location without the names of union members, which are not keys that the user wrote."""
    kept: Location = ()
    for i, key in enumerate(location):
        is_new_key = kind == "missing" and i == len(location) - 1
        if is_new_key or _holds(document, (*kept, key)):
            kept = (*kept, key)
    return kept


def _holds(value: Any, location: Location) -> bool:
    for key in location:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return False
    return True


def _section(location: Location, noun: str) -> str:
    return f"[{short('.'.join(str(key) for key in location))}]" if location else f"the top of the {noun}"


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return short(hex(value))  # Python does not write numbers of thousands of digits otherwise
    return f'"{short(value)}"' if isinstance(value, str) else short(str(value))


def short(text: str, longest: int = _LONGEST) -> str:
    """On one line, and not too long for a sentence."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def keys_at(model: type[BaseModel], location: Location) -> list[str]:
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
