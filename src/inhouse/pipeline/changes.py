"""What differs between a stage's record and what is wanted now, in words: the reason why it is made anew."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import PydanticUndefined

from inhouse.common.lineage import MIDTRAIN, OPTIONAL_STAGES, RL, Record, read_record
from inhouse.common.settings import Settings
from inhouse.pipeline.identity import Identity, listings_of, result_settings
from inhouse.pipeline.stages import Stage, stages_of
from inhouse.recipe.recipe import Recipe

_CALLED = {MIDTRAIN: "mid-training", RL: "reinforcement learning"}


class Change(NamedTuple):
    """One difference. `key` is a setting's dotted name, or the input's."""

    key: str
    words: str


def changes_of(stage: Stage, record: Record, identity: Identity) -> list[Change]:
    """Everything that the result of `stage` depends on and that is other than in its record; none: it is the same.

    A setting that the record does not know, because an earlier inhouse wrote it, is the same while it has its default.
    """
    found = [change for key, value in stage.settings.items() for change in _settings(key, value, record["settings"])]
    theirs, ours = record["inputs"], identity.inputs
    found += [
        Change(name, f"made from another {name}")
        for name, digest in ours["stages"].items()
        if theirs.get("stages", {}).get(name, digest) != digest
    ]
    for name in OPTIONAL_STAGES:
        if (is_read := name in ours["stages"]) != (name in theirs.get("stages", {})):
            found.append(Change(name, f"made {'with' if is_read else 'without'} {_CALLED[name]}"))
    found += _inputs("source", [source.name for source in stage.sources], theirs.get("sources", []), ours)
    names = [path.name for path in stage.conversations]
    found += _inputs("conversation", names, theirs.get("conversations", []), ours)
    names = [path.name for path in stage.environments]
    found += _inputs("environment", names, theirs.get("environments", []), ours)
    found += _inputs("base", [path.name for path in stage.base], theirs.get("base", []), ours)
    return found


def holds_text(recipe: Recipe, run: Path) -> bool:
    """Whether `run` has the tokens of the text that the recipe names. Raises `ValueError` where a file is not there."""
    return all(_is_as_recorded(stage, run) for stage in stages_of(recipe, run) if stage.name in ("data", "tokenizer"))


def _is_as_recorded(stage: Stage, run: Path) -> bool:
    """Whether a finished stage has these settings and files, by their names, sizes and times: none of them is read."""
    record = read_record(run / stage.name)
    if record is None or record.get("listings", {}) != (listings := listings_of(stage)):
        return False
    return not changes_of(stage, record, Identity(result_settings(stage.settings), record["inputs"], listings))


def label_changes(stage: Stage, record: Record) -> list[Change]:
    """Names, places and what else stands in records without changing a result: what is other than it was."""
    return list(_plain("", _json(stage.labels), record.get("labels", {}))) if "labels" in record else []


def _settings(key: str, value: Any, recorded: Any) -> Iterator[Change]:
    """Of the setting `key`, which stands in the table `recorded`."""
    name = key.rpartition(".")[2]
    if not isinstance(recorded, Mapping) or name not in recorded:
        yield Change(key, f"{key} is new")
    elif isinstance(value, Settings):
        yield from _table(key, value, recorded[name])
    elif isinstance(value, Sequence) and value and isinstance(value[0], Settings) and len(value) == len(recorded[name]):
        for number, (each, old) in enumerate(zip(value, recorded[name], strict=True)):
            yield from _table(f"{key}.{number}", each, old)
    elif (new := _json(result_settings(value))) != recorded[name]:
        yield Change(key, f"{key}: {_show(recorded[name])} → {_show(new)}")


def _table(key: str, settings: Settings, recorded: Any) -> Iterator[Change]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if name in settings.beside_the_result:
            continue
        if not isinstance(recorded, Mapping) or name not in recorded:
            default = field.get_default(call_default_factory=True, validated_data={})
            if default is PydanticUndefined or value != default:
                yield Change(f"{key}.{name}", f"{key}.{name}: not recorded → {_show(_json(result_settings(value)))}")
        else:
            yield from _settings(f"{key}.{name}", value, recorded)


def _inputs(kind: str, names: list[str], theirs: list[str], inputs: Mapping[str, Any]) -> Iterator[Change]:
    ours = inputs.get(kind if kind == "base" else f"{kind}s", [])
    if kind == "base" and len(theirs) != len(ours):
        yield Change(kind, "from random weights, not from a base" if theirs else f"from the base {names[0]}")
        return
    if len(theirs) != len(ours):
        yield Change(kind, f"number of {kind}s: {len(theirs)} → {len(ours)}")
        return
    what = {"source": "text of source", "conversation": "conversations in", "environment": "problems in"}.get(
        kind, "model folder"
    )
    for name, old, new in zip(names, theirs, ours, strict=True):
        if old != new:
            yield Change(f"{kind}.{name}", f"{what} {name} changed")


def _plain(key: str, new: Any, old: Any) -> Iterator[Change]:
    """Differences of two JSON values."""
    if isinstance(new, dict) and isinstance(old, dict):
        for name in new.keys() | old.keys():
            yield from _plain(f"{key}.{name}" if key else name, new.get(name), old.get(name))
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        for number, (theirs, ours) in enumerate(zip(old, new, strict=True)):
            yield from _plain(f"{key}.{number}", ours, theirs)
    elif new != old:
        yield Change(key, f"{key}: {_show(old)} → {_show(new)}")


def _json(value: Any) -> Any:
    """As it is read again from a file: tuples are lists there."""
    if isinstance(value, dict):
        return {str(key): _json(each) for key, each in value.items()}
    return [_json(each) for each in value] if isinstance(value, tuple | list) else value


def _show(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_show(each)}" for key, each in value.items()) + "}"
    return f"[{', '.join(map(_show, value))}]" if isinstance(value, list) else str(value)
