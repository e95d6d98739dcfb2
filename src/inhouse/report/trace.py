"""`inhouse trace`: which text, licences, code, settings and machines are in a model, as readable text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inhouse.common.files import digest, read_json
from inhouse.common.lineage import check_lineage, input_digests, lineage
from inhouse.common.model_paths import find_run
from inhouse.common.progress import duration

NAMES_SHOWN = 20


def load_lineage(path: Path) -> dict[str, Any]:
    """The lineage of a run, of one of its stages, or the one that an exported folder carries.

    Raises `ValueError` where `path` has none.
    """
    if (path / "lineage.json").is_file():
        return dict(read_json(path / "lineage.json"))
    if run := find_run(path):
        return lineage(run)
    raise ValueError(f"{path}: no lineage here; give a run (runs/NAME) or a folder that inhouse exported")


def verify_lineage(path: Path) -> list[str]:
    """Every break between the files at `path` and the digests in its lineage; none: everything is as it was made."""
    if not (path / "lineage.json").is_file() and (run := find_run(path)):
        return check_lineage(run)
    files = load_lineage(path).get("files", {})
    if not files:
        raise ValueError(f"{path / 'lineage.json'}: holds no digests of files to verify")
    return [
        f"{path / name}: " + ("is damaged or changed" if (path / name).is_file() else "is missing")
        for name, expected in files.items()
        if not (path / name).is_file() or digest(path / name) != expected
    ]


def render(facts: dict[str, Any]) -> Iterator[str]:
    """The lineage as lines: sources first, then every stage in order with its settings, digests, code and host."""
    yield f"lineage of {facts['run']}"
    yield from (f"stale: {stage}, {reason}" for stage, reason in facts.get("stale", {}).items())
    yield from _made_otherwise(facts["stages"])
    yield ""
    yield "sources"
    yield from (f"  {line}" for line in _sources(facts.get("sources") or {}))
    if facts.get("base"):
        yield "base"
        yield from (f"  {row['name']} ({row['path']}): licence {row['licence']}" for row in facts["base"])
    if facts.get("conversations"):
        yield "conversations"
        yield from (f"  {_labelled(Path(row['path']).name, row)}" for row in facts["conversations"])
    for stage, record in facts["stages"].items():
        yield ""
        again = len(record["attempts"]) - 1
        resumed = f", resumed {again} time{'s' * (again > 1)}" if again else ""
        yield f"{stage}: {record['attempts'][0]['started']}, {duration(record['seconds'])}{resumed}"
        yield from (f"  {line}" for line in _stage(record))


def _made_otherwise(records: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Which stages other code or another torch made than the last one: no reason to make them anew, but to know."""
    made = {name: _made_with(record) for name, record in records.items()}
    last = list(made.values())[-1]
    for number, what in enumerate(("code", "torch")):
        if others := [name for name, each in made.items() if each[number] != last[number]]:
            yield f"made with other {what} than {list(made)[-1]}: {', '.join(others)}"


def _made_with(record: dict[str, Any]) -> tuple[str, str]:
    attempt = record["attempts"][-1]
    return attempt["code"]["source"], attempt["host"]["torch"]


def _sources(counts: dict[str, Any]) -> Iterator[str]:
    for source in counts.get("sources", []):
        inner = {name: count for key in ("encodings", "separators") for name, count in source.get(key, {}).items()}
        outer = {key: value for key, value in source.items() if not isinstance(value, dict) and key != "name"}
        yield _labelled(source["name"], outer | inner)
        for reason, skipped in source.get("skipped", {}).items():
            yield f"  {reason}: {skipped['count']:,} ({', '.join(skipped['names'][:NAMES_SHOWN])})"


def _labelled(name: str, row: dict[str, Any]) -> str:
    """`name (path): licence …, documents …`."""
    plain = {key: value for key, value in row.items() if key != "path"}
    return f"{name} ({row['path']}): " + ", ".join(
        f"{key.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{key} {value}"
        for key, value in plain.items()
    )


def _stage(record: dict[str, Any]) -> Iterator[str]:
    yield f"settings  {json.dumps(record['settings'], ensure_ascii=False)}"
    for name, value in input_digests(record):
        yield f"input     {name} {value}"
    for name, value in record["outputs"].items():
        yield f"output    {name} {value}"
    for what, batches in record.get("untrained", {}).items():
        if batches:
            yield f"untrained {what.replace('_', ' ')}: batches {_batches(batches)}"
    for change in record.get("settings_changed", []):
        yield f"changed   {change['key']} from {change['old']} to {change['new']}, from step {change['step']:,} on"
    if "step" in (branch := record.get("branch", {})):
        yield f"branch    of {branch['from']}, from step {branch['step']:,} on"
    for attempt in record["attempts"]:
        code, host = attempt["code"], attempt["host"]
        commit = f", commit {code['commit']}{' modified' if code.get('modified') else ''}" if code.get("commit") else ""
        yield f"code      inhouse {code['version']}{commit}, source {code['source']}"
        gpus = f", {', '.join(host['gpus'])}" if host["gpus"] else ""
        yield (
            f"host      {host['cpu']}, {host['cores']} cores, {host['memory_bytes'] / 2**30:.0f} GiB{gpus}, "
            f"{host['system']}, Python {host['python']}, torch {host['torch']}"
        )


def _batches(batches: list[int] | list[list[int]]) -> str:
    """Single batches, or ranges [first, end)."""
    shown = [str(b) if isinstance(b, int) else f"{b[0]} to {b[1] - 1}" for b in batches[:NAMES_SHOWN]]
    return ", ".join(shown) + (f" and {len(batches) - NAMES_SHOWN} more" if len(batches) > NAMES_SHOWN else "")
