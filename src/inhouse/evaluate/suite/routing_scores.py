"""The file that routing reads: a line of JSON a task and model. Later lines go before earlier ones of the same two."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inhouse.evaluate.results import Answer, read_results
from inhouse.evaluate.score import Score
from inhouse.evaluate.suite.booked import booked
from inhouse.evaluate.suite.summary import summarise

_Z = 1.96  # of a 95 % interval
_BESIDE = ("refused", "cut_off", "unparsable", "truncated", "touched", "overlap")  # no scores: what else is counted


def append_scores(file: Path, results: Path) -> None:
    """Append a line for every task in the folder `results` to `file`, which is made where it is missing.

    What is the last word on its task and model there already is not said again. Raises ValueError as `read_lines`.
    """
    about, answers = read_results(results)
    said, is_ended = read_lines(file)
    rows = [row for row in score_rows(about, answers) if row != said.get((row["task"], row["model"]))]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8", errors="backslashreplace") as opened:
        opened.write("\n" * (not is_ended) + "".join(lines))


def read_lines(file: Path) -> tuple[dict[tuple[str, str], dict[str, Any]], bool]:
    """The last line on each task and model, none where there is no file; and whether the last line has its end.

    Raises ValueError naming file and line for what is no such file: nothing is appended to another.
    """
    if file.is_dir():
        raise ValueError(f"{file}: a folder; --scores wants a file to append to")
    data = file.read_bytes() if file.is_file() else b""  # a pipe is only written to
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    rows = [_row(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    return {(row["task"], row["model"]): row for row in rows}, not lines[-1]


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or not {"task", "model", "metric", "score", "n"} <= row.keys():
        raise ValueError(f"{where}: not a line of scores as --scores appends them, so nothing is appended here")
    return row


def score_rows(about: dict[str, Any], answers: list[Answer]) -> Iterator[dict[str, Any]]:
    """By task: model, metric (its first one), score, n, the 95 % interval, date, and what all its answers took."""
    scores = summarise(answers)
    for task in dict.fromkeys(answer.task for answer in answers):
        own = [answer for answer in answers if answer.task == task]
        metric = next((name for name in own[0].metrics if name not in _BESIDE), None)
        if metric is None or (score := scores.get(f"{task}/{metric}")) is None:
            continue  # bits and bytes: no score between 0 and 1
        (low, high), took = interval(score), booked(own)
        yield {
            "task": task, "model": about["model"], "metric": metric, "score": score.value, "n": score.count,
            "low": low, "high": high, "date": about["date"], "cost": took.cost, "tokens_in": took.tokens_in,
            "tokens_out": took.tokens_out,
            "seconds_median": statistics.median(each.seconds for each in own),
        }  # fmt: skip


def interval(score: Score) -> tuple[float, float]:
    """Wilson's 95 % interval of a score between 0 and 1, on as many independent items as its standard error says, and
    never on more than there are: where all is right, one item more might still be wrong."""
    p, n = min(max(score.value, 0.0), 1.0), float(score.clusters or score.count)
    if score.standard_error:
        n = min(p * (1 - p) / score.standard_error**2, n)
    n = max(n, 1.0)
    middle, half = p + _Z**2 / (2 * n), _Z * (p * (1 - p) / n + _Z**2 / (4 * n**2)) ** 0.5
    return max((middle - half) / (1 + _Z**2 / n), 0.0), min((middle + half) / (1 + _Z**2 / n), 1.0)
