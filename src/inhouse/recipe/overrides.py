"""`--set section.key=value`: one value of a recipe, changed from outside it."""

import tomllib
from typing import Any

from inhouse.recipe.errors import short
from inhouse.recipe.lines import Location


def override(document: dict[str, Any], text: str) -> tuple[Location, str]:
    """Set one `a.b=value` in the parsed document; the value is TOML, or else a plain string. A key with dots or equal
    signs in it stands in quotes, as in TOML: `rl.environments."questions:set.jsonl"=1`.

    Returns where it was set, and `text`. Raises `ValueError` with a sentence where that is no place in the document.
    """
    dotted, keys, value_text = _parted(text)
    if not all(keys):
        raise ValueError(
            f"--set {short(text)}: write it as section.key=value, for example --set pretrain.tokens=20_000_000"
        )
    location: Location = ()
    holder: Any = document
    for number, key in enumerate(keys):
        is_last = number == len(keys) - 1
        if isinstance(holder, list) and key.isdecimal() and len(key) < 10 and int(key) < len(holder):
            location = (*location, int(key))
            holder[int(key)] = _value(value_text) if is_last else holder[int(key)]
        elif isinstance(holder, dict):
            location = (*location, key)
            holder[key] = _value(value_text) if is_last else holder.get(key, {})
        else:
            raise ValueError(f"--set {short(text)}: {short(dotted)} is not a place in this recipe")
        holder = holder[location[-1]]
    return location, text


def _parted(text: str) -> tuple[str, list[str], str]:
    """The place, its keys, and the value; no key where there is none of it."""
    dotted, equals, value = text.partition("=")
    place = dotted
    for part in value.split("=") if equals and "\n" not in dotted else ():
        try:
            keys, inner = [], tomllib.loads(f"{place} = 0")
        except ValueError:  # within quotes, or a bare key that TOML would want in them
            place = f"{place}={part}"
            continue
        if not inner:  # a comment to TOML: no key of it
            break
        while isinstance(inner, dict):
            ((key, inner),) = inner.items()
            keys.append(key)
        return place, keys, text[len(place) + 1 :]
    return dotted, dotted.strip().split(".") if equals else [""], value


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or a number or a nesting beyond what Python reads
        return text
    return parsed["value"] if len(parsed) == 1 else text
