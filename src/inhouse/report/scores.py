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


def bits_lost(scores: dict[str, dict[str, Any]]) -> float | None:
    """Bits per byte of held-out text that the fine-tuned model has above its base; None where not both are known."""
    base, tuned = (scores.get(f"{which}/bits_per_byte", {}).get("value") for which in ("base", "model"))
    return None if base is None or tuned is None else tuned - base


def score_rows(scores: dict[str, dict[str, Any]]) -> list[ScoreRow]:
    rows = []
    for name, score in scores.items():
        # z: what rounds to nothing has no sign
        show = (lambda x: f"{x:z.4f}") if "bits_per_byte" in name else (lambda x: f"{100 * x:z.1f} %")
        error = show(score["standard_error"]) if score.get("standard_error") is not None else ""
        rows.append(ScoreRow(name, show(score["value"]), error, f"{score['count']:,}", score["how"]))
    return rows


def score_lines(scores: dict[str, dict[str, Any]]) -> list[str]:
    """Scores as aligned lines of text."""
    rows = score_rows(scores)
    width = max((len(row.name) for row in rows), default=0)
    return [
        f"{name:<{width}} {value:>9} {f'± {error}' * bool(error):<10} of {count:>7}  {how}"
        for name, value, error, count, how in rows
    ]
