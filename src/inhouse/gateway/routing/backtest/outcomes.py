"""What several models scored on the same questions, and what each answer cost: read from files of several shapes.

RouteLLM     CSV: `prompt`, and a column True/False a model (Ong et al. 2024, arXiv:2406.18665); the file names the task
LLMRouter    JSONL, a line a question and model: `task_name`, `query`, `model_name`, `performance`, tokens
RouterArena  JSONL, a line a question, a file a model: `global_index`, `llm_selected`, `evaluation_result`
             (arXiv:2510.00202)
inhouse      a folder of results of `inhouse eval --suite`, one a model
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inhouse.api.wire.pieces import Usage
from inhouse.evaluate.results import ABOUT, read_results
from inhouse.providers.prices import Price, price_of

_BYTES_A_TOKEN = 4  # of English text, about


class Scored(NamedTuple):
    """One model's answer to one question. `cost` is None where nobody knows it: it is never nothing."""

    task: str
    question: str
    model: str
    score: float  # between 0 and 1
    cost: float | None


class Outcomes(NamedTuple):
    """Q questions that all of M models answered."""

    tasks: tuple[str, ...]  # of every question
    questions: tuple[str, ...]
    models: tuple[str, ...]
    score_QM: np.ndarray
    cost_QM: np.ndarray  # in units of a currency; NaN where it is unknown
    left_out: int = 0  # questions that only some of the models answered


def read_outcomes(paths: Sequence[Path], prices: tuple[Price, ...] = ()) -> Outcomes:
    """Of files and folders of one or several shapes, which is told by what is in them.

    `prices` give costs where a file says none: of the tokens that it counts, or of a token for every four bytes of its
    texts (RouteLLM's). Raises `ValueError` naming the file, and the line.
    """
    return outcomes_of(row for path in paths for row in _rows(path, prices))


def outcomes_of(rows: Iterable[Scored]) -> Outcomes:
    """Raises `ValueError` where no question was answered by two models or more, all of them."""
    by_question: dict[tuple[str, str], dict[str, Scored]] = {}
    for row in rows:
        by_question.setdefault((row.task, row.question), {})[row.model] = row
    models = tuple(sorted({model for answers in by_question.values() for model in answers}))
    whole = {key: answers for key, answers in by_question.items() if len(answers) == len(models)}
    if len(models) < 2 or not whole:
        raise ValueError(
            f"a backtest compares models on questions that all of them answered: there are {len(models)} models, "
            f"{len(by_question)} questions, and {len(whole)} of these with all answers"
        )
    grid = [[answers[model] for model in models] for answers in whole.values()]
    score_QM = np.array([[each.score for each in row] for row in grid])
    cost_QM = np.array([[np.nan if each.cost is None else each.cost for each in row] for row in grid])
    tasks, questions = zip(*whole, strict=True)
    return Outcomes(tasks, questions, models, score_QM, cost_QM, len(by_question) - len(whole))


def _rows(path: Path, prices: tuple[Price, ...]) -> Iterator[Scored]:
    if path.is_dir() and (path / ABOUT).is_file():
        return _inhouse(path)
    if path.suffix == ".csv":
        return _routellm(path, prices)
    return _json_lines(path, prices)


def _inhouse(folder: Path) -> Iterator[Scored]:
    about, answers = read_results(folder)
    for answer in answers:
        score = next(iter(answer.metrics.values()), None)  # a task's first metric is its score
        if score is not None and 0 <= score <= 1:
            question = f"{answer.item}:{answer.number}"
            yield Scored(answer.task, question, about["model"], score, answer.cost)


def _routellm(file: Path, prices: tuple[Price, ...]) -> Iterator[Scored]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        names = reader.fieldnames or ()
        models = [name for name in names if name != "prompt" and not name.endswith("_response")]
        if "prompt" not in names or not models:
            raise ValueError(f"{file}: not a file of outcomes: it needs the column prompt, and one of each model")
        task = file.stem.removesuffix("_responses")
        for row in reader:
            for model in models:
                if row[model] not in ("True", "False"):
                    raise ValueError(f"{file}, line {reader.line_num}: {model} is neither True nor False")
                cost = _cost_of_texts(price_of(model, prices), row["prompt"], row.get(f"{model}_response") or "")
                yield Scored(task, row["prompt"], model, float(row[model] == "True"), cost)


def _cost_of_texts(price: Price | None, *texts: str) -> float | None:
    if price is None:
        return None
    read, written = (len(text.encode()) // _BYTES_A_TOKEN + 1 for text in texts)
    return price.cost(Usage(read, 0, written, 0))


def _json_lines(file: Path, prices: tuple[Price, ...]) -> Iterator[Scored]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: outcomes cannot be read ({getattr(error, 'strerror', None) or error})") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _scored(json.loads(line), prices)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ValueError(
                    f"{file}, line {number}: not an outcome as RouterArena (global_index, llm_selected, "
                    "evaluation_result) or LLMRouter (task_name, query, model_name, performance) has them"
                ) from None


def _scored(row: dict[str, Any], prices: tuple[Price, ...]) -> Scored:
    if "global_index" in row:
        said = row["evaluation_result"]
        task = str(row["global_index"]).rpartition("_")[0]
        score = min(max(float(said["score"]), 0.0), 1.0)  # its METEOR goes a little below 0
        return Scored(task, row["question"], row["llm_selected"], score, said.get("inference_cost"))
    price = price_of(row["model_name"], prices)
    read, written = row.get("input_tokens"), row.get("output_tokens")
    cost = None if price is None or read is None or written is None else price.cost(Usage(read, 0, written, 0))
    return Scored(row["task_name"], row["query"], row["model_name"], _share(row["performance"]), cost)


def _share(value: Any) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"a score of {value} is not between 0 and 1")
    return float(value)
