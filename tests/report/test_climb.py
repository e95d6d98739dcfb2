"""The chapter of the report on a climb."""

import json
from pathlib import Path

from inhouse.report.climb import climb_answers, climb_charts


def test_what_a_climb_measured_is_drawn_and_its_answers_are_shown(tmp_path: Path) -> None:
    rows = [
        {"step": step, "reward": step / 4, "entropy": 1.0, "mismatch": 1.0, "pass_rate/sums:3": 0.5, "staleness": 0}
        for step in (1, 2, 3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [{"step": step, "environment": "sums:3", "score": 0.1 * step} for step in (0, 2)]
    (tmp_path / "heldout_scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scores))
    answer = {"environment": "sums:3", "prompt": "1 + 1\n?", "reply": "<2>", "score": 1.0, "reward": 1.0, "why": None}
    kept = [{"step": step, **answer} for step in (1, 2, 3)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    captions = [caption for caption, svg in climb_charts(tmp_path) if svg.startswith("<svg")]
    assert captions[:3] == [
        "reward of all answers", "score on held-out problems, the likeliest answer",
        "share of right answers by environment and level, smoothed",
    ]  # fmt: skip
    assert "entropy, and what it is steered to" in captions
    shown = climb_answers(tmp_path)
    assert [each["title"] for each in shown] == ["step 1, sums:3: 1 + 1", "step 3, sums:3: 1 + 1"]
    assert shown[0]["mark"] == "score 1, reward 1"


def test_without_a_climb_there_is_nothing(tmp_path: Path) -> None:
    assert climb_charts(tmp_path) == climb_answers(tmp_path) == []
