"""What the classifier learns from."""

import json
import re
from pathlib import Path

import pytest

from inhouse.environments.product.registry import SUITES
from inhouse.gateway.routing.prompts import Example, own_examples, read_labels


def test_the_projects_own_are_of_every_suite_and_always_the_same() -> None:
    examples = list(own_examples())
    assert examples == list(own_examples())
    assert {example.task for example in examples} == {"general", *(f"product/{name}" for name in SUITES)}
    assert not any(re.search(r"<[^<>]*\|[^<>]*>", example.text) for example in examples)


def test_only_the_newest_labels_of_a_task_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps({"text": str(number), "task": "t"}) + "\n" for number in range(300)))
    assert read_labels(file)[0] == Example("100", "t") and len(read_labels(file)) == 200


@pytest.mark.parametrize("line", ["{", "[]", '{"text": "x"}', '{"text": "x", "task": 3}', '{"text": "", "task": "t"}'])
def test_a_label_that_is_none_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text('{"text": "x", "task": "t"}\n\n' + line)
    with pytest.raises(ValueError, match="line 3: a label is"):
        read_labels(file)
    with pytest.raises(ValueError, match="cannot be read"):
        read_labels(tmp_path / "none")
