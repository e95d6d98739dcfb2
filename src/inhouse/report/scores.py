"""Scores as people read them: values with their unit and error, aligned."""

from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import read_json


class ScoreRow(NamedTuple):
    """A score as text, ready to print."""

    name: str
    value: str
    error: str
    count: str  # type: ignore[assignment]  # the word in every report; nobody counts in this tuple
    how: str


def read_scores(run: Path) -> dict[str, dict[str, Any]]:
    """The scores of a run's evaluate stage; none where it has not run."""
    path = run / "evaluate" / "scores.json"
    return dict(read_json(path)) if path.is_file() else {}


def score_rows(scores: dict[str, dict[str, Any]]) -> list[ScoreRow]:
    return [_row(name, score) for name, score in scores.items()]


def _row(name: str, score: dict[str, Any]) -> ScoreRow:
    error = score.get("standard_error")
    is_share = "bits_per_byte" not in name
    show = (lambda x: f"{100 * x:.1f} %") if is_share else (lambda x: f"{x:.4f}")
    return ScoreRow(
        name, show(score["value"]), show(error) if error is not None else "", f"{score['count']:,}", score["how"]
    )


def score_lines(scores: dict[str, dict[str, Any]]) -> list[str]:
    """Scores as aligned lines of text."""
    rows = score_rows(scores)
    width = max((len(row.name) for row in rows), default=0)
    errors = [f"± {row.error}" if row.error else "" for row in rows]
    return [
        f"{row.name:<{width}} {row.value:>9} {error:<10} of {row.count:>7}  {row.how}"
        for row, error in zip(rows, errors, strict=True)
    ]
