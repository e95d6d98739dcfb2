"""Scores for other programs: JSON Lines, CSV, and the `model-index` of a model card. No torch."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inhouse.common.files import write_atomic
from inhouse.evaluate.score import Score

JSON_LINES, CSV, MODEL_INDEX = "scores.jsonl", "scores.csv", "model-index.yaml"
_COLUMNS = ("model", "task", "metric", "value", "standard_error", "count", "clusters", "date", "how")


def write_exports(folder: Path, about: Mapping[str, Any], scores: Mapping[str, Score]) -> None:
    """The same scores in three forms, beside the results in `folder`."""
    rows = list(score_records(about, scores))
    write_atomic(folder / JSON_LINES, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / CSV, table.getvalue())
    write_atomic(folder / MODEL_INDEX, model_index(str(about["model"]), scores))


def score_records(about: Mapping[str, Any], scores: Mapping[str, Score]) -> Iterator[dict[str, Any]]:
    """One flat object a score."""
    for name, score in scores.items():
        task, metric = name.rsplit("/", 1)
        row = {"model": about["model"], "task": task, "metric": metric, "date": about["date"]} | score._asdict()
        yield {column: row[column] for column in _COLUMNS}


def model_index(model: str, scores: Mapping[str, Score]) -> str:
    """YAML for the head of a model card, as Hugging Face's model-index wants it; texts are quoted as JSON is."""
    lines = ["model-index:", f"- name: {_quoted(model)}", "  results:"]
    for task in dict.fromkeys(name.rsplit("/", 1)[0] for name in scores):
        lines += [
            "  - task: {type: text-generation}",
            f"    dataset: {{name: {_quoted(task)}, type: {_quoted(task)}}}",
            "    metrics:",
        ]
        for name, score in scores.items():
            of, metric = name.rsplit("/", 1)
            if of == task:
                error = "" if score.standard_error is None else f" ± {score.standard_error:.4g}"
                what = _quoted(f"{metric}{error}, {score.count} items: {score.how}")
                lines.append(f"    - {{type: {_quoted(metric)}, value: {score.value:.6g}, name: {what}}}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
