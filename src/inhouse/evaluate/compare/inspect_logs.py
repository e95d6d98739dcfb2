"""Inspect's logs: `.eval` (a zip archive, a JSON file a sample) and `.json`."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from inhouse.evaluate.compare.files import Archive, read_document
from inhouse.evaluate.compare.shared import cluster_of, finite, shaped
from inhouse.evaluate.results import Answer, Results, item_hash, text_hash

_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}  # correct, partly, incorrect, no answer
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_SAMPLE = re.compile(r"samples/.*\.json")

Json = dict[str, Any]


def log_files(path: Path) -> list[Path]:
    """The logs that `path` is or holds."""
    return [path] if path.is_file() else sorted(path.rglob("*.eval"))


def read_logs(path: Path, cluster: str | None) -> Results:
    """A log of Inspect's, or a folder of them, as results; the metrics of an answer are its scorers.

    Items are known by input, target and choices, because ids change when samples are shuffled. Epochs are averaged, as
    Inspect does by itself, of those that were scored. Raises ValueError naming the file for what is no such log, for
    other reducers of epochs, and where two logs are of one task.
    """
    tasks: dict[str, Path] = {}
    models: set[str] = set()
    settings: Json = {}
    notes: list[str] = []
    answers: list[Answer] = []
    for file in log_files(path):
        header, samples = _open(file)
        if not isinstance(spec := header.get("eval"), dict) or "task" not in spec:
            raise ValueError(f"{file}: no log of Inspect's: it has no eval.task")
        task = str(spec["task"])
        if task in tasks:
            raise ValueError(f"{path}: both {tasks[task].name} and {file.name} are of {task}; name one of the files")
        tasks[task] = file
        models.add(str(spec.get("model")))
        with shaped(str(file), "a log of Inspect's"):
            settings[task] = _settings(header)
            _check_reducer(spec, file)
        if (status := header.get("status")) != "success":
            notes.append(f"{file.name} ended with status {status or 'unknown'}: it holds what was done until then")
        answers += _answers(samples, task, cluster, file)
    about = {"model": ", ".join(sorted(models)), "kind": "inspect", "settings": settings, "notes": notes}
    return Results(about, answers)


def _open(file: Path) -> tuple[Json, Iterator[Json]]:
    if file.suffix != ".eval":
        log = read_document(file)
        with shaped(str(file), "a log of Inspect's"):
            return log, iter(log.get("samples") or [])
    archive = Archive(file)
    name = next((name for name in ("header.json", "_journal/start.json") if name in archive.members), None)
    if name is None:
        raise ValueError(f"{file}: no log of Inspect's: there is no header.json in it")
    return archive.read(name), (archive.read(name) for name in archive.members if _SAMPLE.fullmatch(name))


def _settings(header: Json) -> Json:
    """What, beside the messages, decides how a sample is asked and scored."""
    spec = header["eval"]
    steps = (header.get("plan") or {}).get("steps") or []
    return {
        "solvers": [[step.get("solver"), step.get("params")] for step in steps if isinstance(step, dict)],
        "scorers": [[each.get("name"), each.get("options")] for each in spec.get("scorers") or []],
        "task_version": spec.get("task_version"),
    }


def _check_reducer(spec: Json, file: Path) -> None:
    reducers = (spec.get("config") or {}).get("epochs_reducer") or ["mean"]
    if reducers != ["mean"]:
        raise ValueError(f"{file}: its epochs were reduced by {', '.join(map(str, reducers))}; only mean is compared")


def _answers(samples: Iterator[Json], task: str, cluster: str | None, file: Path) -> Iterator[Answer]:
    """One a sample id, in the order of the log."""
    epochs: dict[str, list[Answer]] = {}
    for sample in samples:
        where = f"{file}, sample {sample.get('id') if isinstance(sample, dict) else sample}"
        if not isinstance(sample, dict) or "id" not in sample or "input" not in sample:
            raise ValueError(f"{where}: it has no id and input")
        answered = epochs.setdefault(str(sample["id"]), [])
        with shaped(where, "a sample of Inspect's"):
            answered.append(_answer(sample, task, len(epochs), cluster, where))
        if answered[-1].item != answered[0].item:
            raise ValueError(f"{where}: its epochs have different inputs, targets or choices")
    for answered in epochs.values():
        first = answered[0]
        names = dict.fromkeys(name for answer in answered for name in answer.metrics)
        values = {name: [each.metrics[name] for each in answered if name in each.metrics] for name in names}
        yield first._replace(metrics={name: fmean(found) for name, found in values.items()})


def _answer(sample: Json, task: str, number: int, cluster: str | None, where: str) -> Answer:
    target = sample.get("target")
    prompt = _prompt(sample)
    return Answer(
        task=task,
        item=item_hash([_said(sample["input"]), target, sample.get("choices")]),
        number=number,
        cluster=cluster_of(sample.get("metadata") or {}, cluster, where),
        prompt=prompt,
        prompt_hash=text_hash(prompt),
        gold=target if isinstance(target, str) else None if target is None else json.dumps(target, ensure_ascii=False),
        output=_completion(sample),
        metrics=_scores(sample, where),
        choices=[],
        seconds=0.0,
        tokens_in=0,
        tokens_out=0,
    )


def _prompt(sample: Json) -> str:
    """What stood before the model's first answer; a message a paragraph."""
    before = []
    for message in sample.get("messages") or []:
        if message.get("role") == "assistant" and message.get("source") != "input":
            break
        before.append(message)
    return _said(before or sample["input"])


def _said(messages: Any) -> str:
    if isinstance(messages, str):
        return messages
    return "\n\n".join(f"{message.get('role')}: {_content(message.get('content'))}" for message in messages)


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [part.get("text", part) if isinstance(part, dict) else part for part in content or []]
    return "\n".join(part if isinstance(part, str) else json.dumps(part, sort_keys=True) for part in parts)


def _completion(sample: Json) -> str:
    output = sample.get("output") or {}
    choices = output.get("choices") or [{}]
    return _content(output.get("completion") or (choices[0].get("message") or {}).get("content") or "")


def _scores(sample: Json, where: str) -> dict[str, float]:
    """Each scorer's value as a number; those of a dictionary as SCORER/KEY. A sample that failed has none."""
    values: dict[str, Any] = {}
    for name, score in (sample.get("scores") or {}).items():
        value = score.get("value") if isinstance(score, dict) else score
        values |= {f"{name}/{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    numbers = {name: _number(value, f"{where}: {name}") for name, value in values.items()}
    return {name: number for name, number in numbers.items() if number is not None}


def _number(value: Any, where: str) -> float | None:
    """As Inspect's own `value_to_float`; None for lists, which it does not average either, and for NaN, by which it
    says that a sample was not scored."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, int | float):
        return finite(value, where)
    if not isinstance(value, str):
        return None
    known = _LETTERS.get(value, _WORDS.get(value.lower()))
    try:
        return finite(float(value), where) if known is None else known
    except ValueError as error:
        raise ValueError(f"{where} is {value!r:.60}, which is no number and none of C, I, P, N") from error
