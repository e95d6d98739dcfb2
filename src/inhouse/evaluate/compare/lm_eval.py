"""What lm-eval's `--log_samples` writes: `samples_TASK_DATE.jsonl`, a line for each document and filter."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inhouse.evaluate.compare.files import read_document, read_lines
from inhouse.evaluate.compare.shared import cluster_of, finite, shaped
from inhouse.evaluate.results import Answer, Results, item_hash

_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?\.jsonl")
_FIELDS = {  # of a line, beside its metrics
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash",
}  # fmt: skip
_OUR_NAMES = {"acc": "accuracy", "acc_bytes": "accuracy_per_byte"}
_SETTINGS = (  # what results_DATE.json says of a prompt
    "chat_template_sha", "system_instruction_sha", "fewshot_as_multiturn",
)  # fmt: skip


def sample_files(path: Path) -> list[Path]:
    """The sample files that `path` is or holds."""
    return [path] if path.is_file() else sorted(path.rglob("samples_*.jsonl"))


def read_samples(path: Path, cluster: str | None, as_ours: bool) -> Results:
    """A sample file of lm-eval's, or a folder of them, as results.

    Items are known by `doc_hash`; with `as_ours` by our own hash of `doc`, and metrics by our names. A task whose
    answers were taken by a filter is called TASK [FILTER].
    Raises ValueError naming file and line for what is not such a file, and where two files are of one task.
    """
    files: dict[str, Path] = {}
    for file in sample_files(path):
        task = match["task"] if (match := _NAME.fullmatch(file.name)) else file.stem.removeprefix("samples_")
        if task in files:
            raise ValueError(f"{path}: both {files[task].name} and {file.name} are of {task}; name one of the files")
        files[task] = file
    answers = [answer for task, file in files.items() for answer in _answers(file, task, cluster, as_ours)]
    model, settings = _about(files)
    return Results({"model": model or path.name, "kind": "lm-eval", "settings": settings}, answers)


def _about(files: Mapping[str, Path]) -> tuple[str | None, dict[str, Any]]:
    """The model's name, and what shaped each task's prompts, from the results files beside the samples."""
    model: str | None = None
    settings: dict[str, Any] = {}
    for folder in {file.parent for file in files.values()}:
        for path in sorted(folder.glob("results_*.json")):
            facts = read_document(path)
            model = facts.get("model_name") or model
            shared = {key: facts[key] for key in _SETTINGS if key in facts}
            with shaped(str(path), "results of lm-eval's"):
                shots = (facts.get("n-shot") or {}).items()
            settings |= {task: {"num_fewshot": number, **shared} for task, number in shots if task in files}
    return model, settings


def _answers(file: Path, task: str, cluster: str | None, as_ours: bool) -> Iterator[Answer]:
    for where, row in read_lines(file):
        if missing := [key for key in ("doc_hash", "prompt_hash", "doc_id") if key not in row]:
            raise ValueError(f"{where}: no {missing[0]}; not a line of lm-eval's --log_samples")
        if not isinstance(row["doc_id"], int):
            raise ValueError(f"{where}: doc_id is {row['doc_id']!r:.60}, no whole number")
        with shaped(where, "a line of lm-eval's --log_samples"):
            answer = _answer(row, where, task, cluster, as_ours)
        yield answer


def _answer(row: dict[str, Any], where: str, task: str, cluster: str | None, as_ours: bool) -> Answer:
    if as_ours and "doc" not in row:
        raise ValueError(f"{where}: no doc, so the item cannot be matched with results of another program")
    taken = row.get("filter", "none")
    context, choices = _arguments(row)
    target = row.get("target")
    place = str(target)  # lm-eval writes it as text
    gold = choices[int(place)] if place.isdecimal() and int(place) < len(choices) else target
    return Answer(
        task=task if taken == "none" else f"{task} [{taken}]",
        item=item_hash(row["doc"]) if as_ours else str(row["doc_hash"]),
        number=row["doc_id"],
        cluster=cluster_of(row.get("doc"), cluster, where),
        prompt=context,
        prompt_hash=str(row["prompt_hash"]),
        gold=None if gold is None else _text(gold),
        output=_output(row, choices),
        metrics=_metrics(row, where, _OUR_NAMES if as_ours else {}),
        choices=[],
        seconds=0.0,
        tokens_in=0,
        tokens_out=0,
    )


def _metrics(row: dict[str, Any], where: str, names: Mapping[str, str]) -> dict[str, float]:
    """The scores of a line that are numbers; perplexities and the like, which are pairs, are left out."""
    asked = row.get("metrics") or [key for key in row if key not in _FIELDS]
    scores = {name: row[name] for name in asked if isinstance(row.get(name), int | float)}
    return {names.get(name, name): finite(score, f"{where}: {name}") for name, score in scores.items()}


def _arguments(row: dict[str, Any]) -> tuple[str, list[str]]:
    """The prompt, and the continuations whose likelihoods were asked for."""
    given = row.get("arguments") or {}
    requests = list(given.values()) if isinstance(given, dict) else given
    pairs = [list(request.values()) if isinstance(request, dict) else request for request in requests]
    context = _text(pairs[0][0]) if pairs and pairs[0] else ""
    return context, [pair[1] for pair in pairs if len(pair) > 1 and isinstance(pair[1], str)]


def _output(row: dict[str, Any], choices: list[str]) -> str:
    """The likeliest choice, else what the filter left of the answer."""
    taken = row.get("filtered_resps") or [""]
    if len(choices) == len(taken) > 1:
        return choices[max(range(len(taken)), key=lambda place: _likelihood(taken[place]))]
    return _text(taken[0])


def _likelihood(response: Any) -> float:
    try:
        return float(response[0] if isinstance(response, list) else response)
    except (ValueError, TypeError, IndexError, OverflowError):
        return float("-inf")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
