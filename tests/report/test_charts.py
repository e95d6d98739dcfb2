"""Every chart of a stage draws the figure that its caption names."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fabricated_run import METRICS, SPENT, fabricate

from inhouse.report import charts
from inhouse.report.charts import read_metrics, stage_charts

TOKENS = [1e6, 2e6, 3e6]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is drawn, in order: the lines of a chart or the parts of a bar."""
    found: list[Any] = []

    def note(content: Any, *_: Any, **__: Any) -> str:
        found.append(content)
        return "<svg></svg>"

    monkeypatch.setattr(charts, "line_chart", note)
    monkeypatch.setattr(charts, "share_bar", note)
    return found


def column(name: str) -> list[float]:
    return [row[name] for row in METRICS]


def test_every_caption_has_its_column_over_the_tokens(tmp_path: Path, drawn: list[Any]) -> None:
    captions = [caption for caption, _ in stage_charts(fabricate(tmp_path / "mine") / "pretrain")]
    found = dict(zip((caption.split(":")[0] for caption in captions), drawn, strict=True))
    assert found["loss"]["each step"] == (TOKENS, column("loss"))
    assert found["throughput"] == {"tokens/s": (TOKENS, column("tokens_per_second"))}
    assert found["learning rate of the matrices"] == {"lr": (TOKENS, column("lr"))}
    assert found["gradient norm"] == {"norm": (TOKENS, column("gradient_norm"))}
    fullest = found["fullest expert of each MoE layer, as a share of the mean load"]
    assert fullest == {"layer 1": (TOKENS, [2.0] * 3), "layer 2": (TOKENS, [3.0] * 3)}
    emptiest = found["emptiest expert of each MoE layer"]
    assert emptiest == {"layer 1": (TOKENS, [0.2] * 3), "layer 2": (TOKENS, [0.3] * 3)}
    assert found["router entropy"] == {"layer 1": (TOKENS, [1.1] * 3), "layer 2": (TOKENS, [1.2] * 3)}
    assert found["where the time went"] == SPENT | {"validation": 0.0}  # which an older ledger does not know
    assert captions[-1] == "where the time went: goodput 75.0 %"
    assert len(found) == 8


def test_the_loss_caption_gives_the_smoothed_end(tmp_path: Path, drawn: list[Any]) -> None:
    captions = [caption for caption, _ in stage_charts(fabricate(tmp_path / "mine") / "pretrain")]
    weights = (0.081, 0.09, 0.1)  # 0.9², 0.9 and 1, times 1 − 0.9
    mean = sum(w * loss for w, loss in zip(weights, column("loss"), strict=True)) / sum(weights)
    assert captions[0] == f"loss: {mean:.3f} nats a token at the end"


def test_the_loss_on_held_out_text_is_drawn_where_it_was_measured(tmp_path: Path, drawn: list[Any]) -> None:
    rows = [{"step": step, "tokens": 100 * step, "loss": 4.0 - step} for step in range(1, 5)]
    rows[1]["validation_loss"], rows[3]["validation_loss"] = 2.5, 1.5
    rows[1]["text_loss"] = 3.5  # what fine-tuning logs of the text beside its conversations
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    caption, _ = stage_charts(tmp_path)[0]
    assert drawn[0]["held out"] == ([200.0, 400.0], [2.5, 1.5])
    assert drawn[0]["held-out text"] == ([200.0], [3.5])
    assert caption.endswith("nats a token at the end, 1.500 held out, 3.500 held-out text")


def test_a_figure_that_was_not_measured_has_no_chart(tmp_path: Path, drawn: list[Any]) -> None:
    run = fabricate(tmp_path / "mine")
    assert [caption for caption, _ in stage_charts(run / "sft")] == ["loss: 2.500 nats a token at the end"]
    assert drawn[0]["each step"] == ([1.0], [2.5])  # steps, where tokens are not counted
    assert stage_charts(run / "tokenizer") == []
    assert read_metrics(run / "tokenizer") == []


def test_a_step_without_a_figure_leaves_a_gap(tmp_path: Path, drawn: list[Any]) -> None:
    rows = [{"step": 1, "loss": 3.0}, {"step": 2}, {"step": 3, "loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage_charts(tmp_path)
    xs, ys = drawn[0]["each step"]
    assert xs == [1.0, 2.0, 3.0]
    assert (ys[0], ys[1] == ys[1], ys[2]) == (3.0, False, 1.0)
