"""What a run records about itself: one `stage.json` a stage, and the chain of digests that they form.

A stage's inputs are the digests of other stages' outputs (or of the source files); so from any exported file the
chain leads back to every input.
"""

import hashlib
import json
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from inhouse.common.files import digest, read_json

STAGES = ("data", "tokenizer", "pretrain", "sft", "evaluate", "export")  # of every run
MIDTRAIN, RL = "midtrain", "rl"  # which a run has where its recipe asks for it
OPTIONAL_STAGES = (MIDTRAIN, RL)
POSSIBLE_STAGES = (*STAGES[:3], MIDTRAIN, "sft", RL, *STAGES[4:])
RECORD = "stage.json"
OUTDATED = "outdated.json"  # of a run: stages that the recipe now wants otherwise, and why
LABELS = ("name", "path", "licence")  # of a source: what may change without a new corpus
UNTRAINED = "untrained.json"  # of a stage that trains: the batches that did not reach the weights
SETTINGS_CHANGED = "settings_changed.json"  # of one whose settings changed on the way: which, from which step
GGUF = "gguf.json"  # of the export stage: what each GGUF file holds, and the bits per byte that it loses
BRANCH = "branch.json"  # of one that goes on from another run: from which, and at which step

Record = dict[str, Any]


def digest_of(value: Any) -> str:
    """The digest of a JSON value, whatever the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    data = canonical.encode("utf-8", "backslashreplace")  # names of files that are not UTF-8 have half pairs
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@cache
def code_digest() -> str:
    """Of this package's own source: processes that have the same one run the same code."""
    package = Path(__file__).parents[1]
    return digest_of({path.relative_to(package).as_posix(): digest(path) for path in sorted(package.rglob("*.py"))})


def read_record(folder: Path) -> Record | None:
    """The `stage.json` of a stage folder, or None where the stage has not run (or not to its end)."""
    record: Record | None = read_json(folder / RECORD) if (folder / RECORD).is_file() else None
    return in_groups(record) if record and "outputs" in record else None


def in_groups(record: Record) -> Record:
    """A record as they are now: earlier ones had all inputs in one table, a source's beside a stage's."""
    if "stages" in record["inputs"]:
        return record
    flat, listings = record["inputs"], record.get("listings", {})
    stages = {} if record["stage"] == STAGES[0] else flat
    sources = {"sources": list(flat.values())} if record["stage"] == STAGES[0] else {}
    return record | {
        "inputs": {"stages": stages, **sources},
        "listings": {"sources": list(listings.values())} if listings else {},
    }


def input_digests(record: Record) -> list[tuple[str, str]]:
    """Each input of a stage with its digest: stages by name, files from outside by what they are and their label."""
    inputs, labels = in_groups(record)["inputs"], record.get("labels", {})
    found = list(inputs["stages"].items())
    for group, digests in inputs.items():
        if group != "stages":
            known = labels.get(group, [])
            found += [(_name_of(group, known, number), value) for number, value in enumerate(digests)]
    return found


def _name_of(group: str, labels: list[dict[str, str]], number: int) -> str:
    label = labels[number] if number < len(labels) else {}
    return f"{group.removesuffix('s')} {label.get('name') or Path(label.get('path', str(number))).name}"


def result_digest(record: Record) -> str:
    """The digest of what later stages read of a stage: its outputs without those that its record calls `unread`."""
    return digest_of({name: value for name, value in record["outputs"].items() if not is_unread(record, name)})


def is_unread(record: Record, file: str) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in record.get("unread", ()))


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of ours: it holds a finished stage."""
    return any((folder / stage / RECORD).is_file() for stage in STAGES)


def stale(run: Path) -> dict[str, str]:
    """The finished stages of a run that are not what would be made now, each with the reason.

    Raises nothing where a run is not there: it has none.
    """
    records = {stage: record for stage in POSSIBLE_STAGES if (record := read_record(run / stage))}
    found: dict[str, str] = dict(read_json(run / OUTDATED)) if (run / OUTDATED).is_file() else {}
    reasons = {}
    for stage, record in records.items():
        if stage in found:
            reasons[stage] = found[stage]
            continue
        for name, given in record["inputs"]["stages"].items():
            if name not in records:
                reasons[stage] = f"{name} is gone"
            elif given != result_digest(records[name]):
                reasons[stage] = f"made from another {name} than the one beside it"
            elif name in reasons:
                reasons[stage] = f"{name} is stale"
    return reasons


def lineage(run: Path) -> dict[str, Any]:
    """Everything that a run knows of its descent, ready for JSON: sources and every finished stage's record.

    Raises `ValueError` where `run` holds no finished stage.
    """
    records = {stage: record for stage in POSSIBLE_STAGES if (record := read_record(run / stage))}
    if not records:
        raise ValueError(f"{run}: no finished stage here; give the folder of a run (runs/NAME)")
    counts = run / "data" / "counts.json"
    sources = _labelled(read_json(counts), source_labels(run)) if counts.is_file() else None
    outdated = stale(run)
    told = {"stale": outdated} if outdated else {}
    taught = {"conversations": conversations} if (conversations := _conversations(run, records.get("sft", {}))) else {}
    labels = records.get("pretrain", {}).get("labels", {})
    base = {"base": labels["base"]} if "base" in labels else {}
    return {"run": run.resolve().name, **told, "sources": sources, **base, **taught, "stages": records}


def _conversations(run: Path, record: Record) -> list[dict[str, Any]]:
    """The user's files of conversations that the fine-tuned model was taught with, labels before counts."""
    labels = record.get("labels", {}).get("conversations", [])
    path = run / "sft" / "conversations.json"
    counts = read_json(path).get("files", []) if labels and path.is_file() else []
    return [label | (counts[number] if number < len(counts) else {}) for number, label in enumerate(labels)]


def source_labels(run: Path) -> list[dict[str, str]]:
    """`name`, `licence` and `path` of every source of a run, in the recipe's order; empty where no data stage is."""
    record = read_record(run / "data") or {}
    labels = record.get("labels") or record.get("settings", {}).get("data", {})  # an earlier inhouse had no labels
    return [{key: str(source.get(key, "unknown")) for key in LABELS} for source in labels.get("sources", ())]


def _labelled(counts: dict[str, Any], labels: list[dict[str, str]]) -> dict[str, Any]:
    """The data stage's counts with each source's labels before its figures."""
    rows = counts.get("sources", [])
    unknown = [dict.fromkeys(LABELS, "unknown") | {"name": f"source {number}"} for number in range(len(rows))]
    known = labels if len(labels) == len(rows) else unknown
    return counts | {"sources": [label | row for label, row in zip(known, rows, strict=True)]}


def check_lineage(run: Path) -> list[str]:
    """Every break in a run's chain of digests, as sentences: changed or missing files, inputs that no stage gave."""
    records = lineage(run)["stages"]
    breaks = [sentence for stage, record in records.items() for sentence in check_outputs(run / stage, record)]
    for stage, record in records.items():
        for name, given in record["inputs"]["stages"].items():
            if name in records and given != result_digest(records[name]):
                breaks.append(f"{run / stage}: was made from another {name} than the one that stands beside it")
    return breaks


def check_outputs(folder: Path, record: Record) -> list[str]:
    """Every file of a stage that is not, byte for byte, what the stage wrote."""
    breaks = []
    for name, expected in record["outputs"].items():
        path = folder / name
        if not path.is_file():
            breaks.append(f"{path}: is missing")
        elif digest(path) != expected:
            breaks.append(f"{path}: is damaged (its digest is not the one in {RECORD})")
    return breaks
