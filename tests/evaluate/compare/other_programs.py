"""Files in the shapes that lm-eval and Inspect write, by code: the same fields, a few rows."""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import zstandard

from inhouse.evaluate.results import ABOUT, ANSWERS, Answer, item_hash, text_hash

Row = dict[str, Any]


def lm_eval_row(
    number: int, scores: Row, doc: Row | None = None, prompt: str | None = None, taken: str = "none", said: str = "x"
) -> Row:
    """A line of `--log_samples` of a generation task."""
    doc = {"question": f"question {number}"} if doc is None else doc
    prompt = f"Q: {doc['question']}\nA:" if prompt is None else prompt
    return {
        "doc_id": number,
        "doc": doc,
        "target": "y",
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}},
        "resps": [[said]],
        "filtered_resps": [said],
        "filter": taken,
        "metrics": list(scores),
        "doc_hash": hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest(),
        "target_hash": hashlib.sha256(b"y").hexdigest(),
        **scores,
    }


def choice_row(number: int, likelihoods: Sequence[float], right: int) -> Row:
    """A line of a multiple-choice task, likelihoods as lm-eval writes them: as text, with whether greedy."""
    choices = ["north", "east", "south", "west"][: len(likelihoods)]
    best = max(range(len(likelihoods)), key=lambda place: likelihoods[place])
    row = lm_eval_row(number, {"acc": float(best == right)})
    texts = [[str(value), "False"] for value in likelihoods]
    arguments = {
        f"gen_args_{place}": {"arg_0": f"Q: question {number}\nA:", "arg_1": f" {choice}"}
        for place, choice in enumerate(choices)
    }
    return row | {
        "target": str(right),
        "arguments": arguments,
        "resps": [[text] for text in texts],
        "filtered_resps": texts,
    }


def write_lm_eval(folder: Path, tasks: dict[str, Iterable[Row]], about: Row | None = None) -> Path:
    """A folder as `--output_path` makes it."""
    inner = folder / "model"
    inner.mkdir(parents=True)
    date = "2026-11-30T10-00-00.123456"
    for task, rows in tasks.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (inner / f"samples_{task}_{date}.jsonl").write_text(lines, encoding="utf-8")
    facts = {"model_name": folder.name, "n-shot": dict.fromkeys(tasks, 0), "chat_template_sha": None}
    (inner / f"results_{date}.json").write_text(json.dumps(facts | (about or {})))
    return folder


def scored(scores: Iterable[float], metric: str = "exact_match") -> list[Row]:
    """One line a score."""
    return [lm_eval_row(number, {metric: score}) for number, score in enumerate(scores)]


def sample(number: int, value: Any, epoch: int = 1, asked: str | None = None, **fields: Any) -> Row:
    """A sample of an Inspect log, scored by `match`."""
    asked = f"question {number}" if asked is None else asked
    return {
        "id": number,
        "epoch": epoch,
        "input": asked,
        "target": "y",
        "messages": [
            {"id": f"m{number}{epoch}{value}", "content": "Answer.", "role": "system"},
            {"id": f"u{number}{epoch}{value}", "content": asked, "role": "user", "source": "input"},
            {"id": f"a{number}{epoch}{value}", "content": "x", "role": "assistant", "source": "generate"},
        ],
        "output": {"model": "m", "choices": [{"message": {"content": "x", "role": "assistant"}}], "completion": "x"},
        "scores": {"match": {"value": value, "answer": "x"}},
        "metadata": {},
        **fields,
    }


def inspect_header(task: str = "letters", **spec: Any) -> Row:
    return {
        "version": 2,
        "status": "success",
        "eval": {"task": task, "model": "mockllm/model", "task_version": 0, "config": {"epochs": 1}, **spec},
        "plan": {"name": "plan", "steps": [{"solver": "generate", "params": {}}]},
    }


def write_inspect(
    path: Path, samples: Sequence[Row], header: Row | None = None, compression: int = zipfile.ZIP_DEFLATED
) -> Path:
    """A log: `.json`, or `.eval` with the compression given; 93 is Zstandard, which newer versions of Inspect take."""
    header = inspect_header() if header is None else header
    if path.suffix == ".json":
        path.write_text(json.dumps(header | {"samples": samples}))
        return path
    files = {"header.json": header, "summaries.json": []}
    files |= {f"samples/{n}_epoch_{each.get('epoch')}.json": each for n, each in enumerate(samples)}
    write_zip(path, {name: json.dumps(value).encode() for name, value in files.items()}, compression)
    return path


def write_zip(path: Path, files: dict[str, bytes], compression: int) -> None:
    """A zip archive; Zstandard by hand, because Python's zipfile knows it from 3.14 on: packed bytes are stored, and
    then called what they are.
    """
    is_zstandard = compression == 93
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if is_zstandard else compression) as archive:
        for name, data in files.items():
            archive.writestr(name, zstandard.compress(data) if is_zstandard else data)
    if is_zstandard:
        whole = bytearray(path.read_bytes())
        for mark, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
            place = whole.find(mark)
            while place >= 0:
                whole[place + method : place + method + 2] = (93).to_bytes(2, "little")
                name = whole[place + (30 if size == 22 else 46) :]
                real = next(len(data) for key, data in files.items() if name.startswith(key.encode()))
                whole[place + size : place + size + 4] = real.to_bytes(4, "little")
                place = whole.find(mark, place + 4)
        path.write_bytes(whole)


def answer(number: int, metrics: dict[str, float], **fields: Any) -> Answer:
    """An answer as `inhouse eval` keeps it, to the same questions as `lm_eval_row`."""
    doc = {"question": f"question {number}"}
    prompt = f"Q: question {number}\nA:"
    facts = {
        "task": "letters", "item": item_hash(doc), "number": number, "cluster": None, "prompt": prompt,
        "prompt_hash": text_hash(prompt), "gold": "y", "output": "x", "metrics": metrics, "choices": [], "seconds": 0.1,
        "tokens_in": 5, "tokens_out": 1,
    }  # fmt: skip
    return Answer(**{**facts, **fields})


def write_ours(folder: Path, answers: Iterable[Answer]) -> Path:
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(each._asdict()) + "\n" for each in answers)
    (folder / ANSWERS).write_text(lines)
    (folder / ABOUT).write_text(json.dumps({"model": folder.name, "kind": "folder", "settings": {}}))
    return folder
