"""Reads evidence: the files that `inhouse eval --scores` and `inhouse arena board --json` write, and counted votes."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.gateway.routing.evidence import Evidence, Finding, Typical, share_of
from inhouse.gateway.routing.settings import BoardSettings, EvidenceSettings
from inhouse.gateway.types import Estimate

_POINTS = 400  # of a board: odds of 10 to 1
_AVERAGE = 1000  # of a board's models

_log = logging.getLogger(__name__)


class Votes(NamedTuple):
    """Of users, on one model's answers to one task."""

    task: str
    model: str
    good: int
    bad: int


def read_evidence(settings: EvidenceSettings, votes: Sequence[Votes] = ()) -> Evidence:
    """Later files and lines go before earlier ones. Raises `ValueError` naming file and line for what is none."""
    findings: list[Finding] = []
    typical: dict[tuple[str, str], Typical] = {}
    rows = [(row, file) for file in settings.scores for row in _score_rows(file)]
    metrics = {row["task"]: row["metric"] for row, _ in rows}
    notes = []
    for row, file in rows:
        if row["metric"] != metrics[row["task"]]:
            notes.append(
                f"{file}: {row['model']} at {row['task']} is left out: it was scored by {row['metric']}, "
                f"the task's latest score by {metrics[row['task']]}"
            )
            continue
        estimate = Estimate(row["score"], row["low"], row["high"], row["n"])
        findings.append(
            Finding(row["task"], row["model"], "evaluations", estimate, str(file), str(row.get("date", "")))
        )
        tokens = row.get("tokens_out")
        typical[row["task"], row["model"]] = Typical(tokens / row["n"] if tokens else None, row.get("seconds_median"))
    for board in settings.board:
        findings += _board_findings(board)
    for task, model, good, bad in votes:
        if good + bad:
            findings.append(Finding(task, model, "votes", share_of(good, good + bad), "users' votes"))
    return Evidence(findings, settings.weights, typical, notes)


async def keep_fresh(
    settings: EvidenceSettings, votes: Callable[[], Awaitable[Sequence[Votes]]], use: Callable[[Evidence], None]
) -> None:
    """Reads all of it again every `read_again_seconds`, without end. What cannot be read leaves what was known."""
    while True:
        await asyncio.sleep(settings.read_again_seconds)
        try:
            use(await asyncio.to_thread(read_evidence, settings, await votes()))
        except Exception as error:  # a file that is just being written, a store that is away: try again later
            _log.warning("routing goes on with the evidence that it has: %s", error)


def _score_rows(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        row = _json(line, f"{file}, line {number}")
        if not isinstance(row, dict) or not _is_score(row):
            raise ValueError(f"{file}, line {number}: not a line of scores as `inhouse eval --scores` appends them")
        yield row


def _is_score(row: dict[str, Any]) -> bool:
    texts = all(isinstance(row.get(key), str) and row[key] for key in ("task", "model", "metric"))
    return texts and _ordered(row.get("low"), row.get("score"), row.get("high")) and _is_count(row.get("n"))


def _board_findings(board: BoardSettings) -> Iterator[Finding]:
    """A score becomes the share of points that the model would win against an average one (Bradley-Terry)."""
    rows = _json(_text(board.file), str(board.file))
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("model"), str) for row in rows
    ):
        raise ValueError(f"{board.file}: not a board as `inhouse arena board --json` writes it")
    for row in rows:
        points = [row.get(key) for key in ("low", "score", "high")]
        if any(value is None for value in points):
            continue  # nobody can say how strong it is
        low, mean, high = (_won(value, board.file) for value in points)
        if not _is_count(row.get("battles")) or not low <= mean <= high:
            raise ValueError(f"{board.file}: {row['model']}: not a row as `inhouse arena board --json` writes it")
        yield Finding(board.task, row["model"], "boards", Estimate(mean, low, high, row["battles"]), str(board.file))


def _won(points: Any, file: Path) -> float:
    if isinstance(points, bool) or not isinstance(points, int | float):
        raise ValueError(f"{file}: not a board as `inhouse arena board --json` writes it")
    return float(1 / (1 + 10 ** min((_AVERAGE - points) / _POINTS, 300.0)))


def _ordered(*values: Any) -> bool:
    """low <= score <= high, all of them shares; a score may stand a rounding beside its own interval."""
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        return False
    low, score, high = values
    return -1e-9 <= low <= score + 1e-9 and score <= high + 1e-9 and high <= 1 + 1e-9


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: evidence cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: not JSON") from None
