"""The same scores as JSON Lines, CSV, and a model card's head that Hugging Face reads."""

import csv
import json
from pathlib import Path

import pytest

from inhouse.evaluate.exports import CSV, JSON_LINES, model_index, write_exports
from inhouse.evaluate.score import Score

SCORES = {
    "core/copa/accuracy": Score(0.625, 0.048, 100, "the likeliest, or not"),
    "gsm8k/exact_match": Score(0.0, None, 1, 'to the "letter"', 1),
}
ABOUT = {"model": "mine: the first", "date": "2026-11-30T12:00:00+00:00"}


def test_lines_and_table_say_the_same(tmp_path: Path) -> None:
    write_exports(tmp_path, ABOUT, SCORES)
    lines = [json.loads(line) for line in (tmp_path / JSON_LINES).read_text().splitlines()]
    assert [(line["task"], line["metric"], line["value"], line["clusters"]) for line in lines] == [
        ("core/copa", "accuracy", 0.625, None), ("gsm8k", "exact_match", 0.0, 1),
    ]  # fmt: skip
    with (tmp_path / CSV).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{key: "" if value is None else str(value) for key, value in line.items()} for line in lines] == rows


def test_a_model_card_takes_the_index() -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(f"---\nlicense: apache-2.0\n{model_index(ABOUT['model'], SCORES)}---\n# Card\n")
    assert card.data.model_name == "mine: the first"
    found = [(result.dataset_name, result.metric_type, result.metric_value) for result in card.data.eval_results]
    assert found == [("core/copa", "accuracy", 0.625), ("gsm8k", "exact_match", 0.0)]
