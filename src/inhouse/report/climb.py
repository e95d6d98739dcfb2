"""The pictures of a climb, and answers of its first and its last steps."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inhouse.report.charts import Line, Rows, column, points, read_metrics, time_chart
from inhouse.report.plots import line_chart, smooth

_ANSWERS, _HELDOUT = "answers.jsonl", "heldout_scores.jsonl"
_STEP = "step"
# a chart each: its caption, what its y-axis counts, and the figures by the names that its lines have
_CHARTS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("entropy, and what it is steered to", "nats a token", {"entropy": "entropy", "target": "entropy_target"}),
    ("tokens without a gradient", "share", {"ratio too low": "clipped_low", "ratio too high": "clipped_high"}),
    ("learner against sampler: the mismatch weight", "weight", {"mean": "mismatch", "largest": "mismatch_max"}),
    ("length of answers", "tokens", {"answers": "answer_tokens", "limit": "max_tokens"}),
    (
        "what is not learnt from",
        "share",
        {"groups dropped": "dropped_groups", "early exits": "early_exits", "answers cut": "cut_answers"},
    ),
    ("age of the weights that sampled", "steps", {"oldest": "staleness"}),
    ("gradient norm", "norm", {"norm": "gradient_norm"}),
)  # fmt: skip


def climb_charts(stage: Path) -> list[tuple[str, str]]:
    """(caption, SVG) of everything that a climb measured; nothing where there was none."""
    steps = read_metrics(stage)
    return [*_charts(steps, _rows(stage / _HELDOUT)), *time_chart(stage)] if steps else []


def _charts(steps: Rows, heldout: Rows) -> Iterator[tuple[str, str]]:
    xs = [float(row[_STEP]) for row in steps]
    if reward := column(steps, "reward"):
        lines = {"each step": (xs, reward), "smoothed": (xs, smooth(reward))}
        yield "reward of all answers", line_chart(lines, _STEP, "reward", faint="each step")
    if heldout:
        kinds = dict.fromkeys(row["environment"] for row in heldout)
        lines = {kind: _scores(heldout, kind) for kind in kinds}
        yield "score on held-out problems, the likeliest answer", line_chart(lines, _STEP, "score", from_zero=True)
    prefix = "pass_rate/"
    names = sorted({name for row in steps for name in row if name.startswith(prefix)})
    if rates := {name.removeprefix(prefix): found for name in names if (found := points(steps, xs, name))}:
        smoothed = {kind: (own_xs, smooth(values)) for kind, (own_xs, values) in rates.items()}
        yield "share of right answers by environment and level, smoothed", line_chart(smoothed, _STEP, "share")
    for caption, label, figures in _CHARTS:
        lines = {name: (xs, values) for name, figure in figures.items() if (values := column(steps, figure))}
        if lines:
            yield caption, line_chart(lines, _STEP, label)


def _scores(heldout: Rows, kind: str) -> Line:
    own = [row for row in heldout if row["environment"] == kind]
    return [float(row[_STEP]) for row in own], [float(row["score"]) for row in own]


def climb_answers(stage: Path) -> list[dict[str, Any]]:
    """Those that were kept of the first step and of the last, ready for the page."""
    rows = _rows(stage / _ANSWERS)
    if not rows:
        return []
    chosen = {rows[0][_STEP], rows[-1][_STEP]}
    return [_shown(row) for row in rows if row[_STEP] in chosen]


def _shown(row: dict[str, Any]) -> dict[str, str]:
    first = str(row["prompt"]).partition("\n")[0][:80]
    why = f": {row['why']}" if row["why"] else ""
    return {
        "title": f"step {row[_STEP]:,}, {row['environment']}: {first}",
        "mark": f"score {row['score']:g}, reward {row['reward']:.3g}{why}",
        "prompt": str(row["prompt"]),
        "reply": str(row["reply"]),
    }


def _rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []
