"""What a verifier of the environments says of a reply becomes an item's metrics."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from inhouse.environments.environment import Grade, Problem, exact_match
from inhouse.evaluate.tasks.verified import prompts_task


def test_a_verifier_judges_replies_strictly_and_leniently(tmp_path: Path) -> None:
    verifier = SimpleNamespace(
        problem=lambda row: Problem(row["prompt"], "", row["target"]),
        score=exact_match,
        lenient=lambda problem, reply: Grade(float(problem.answer in reply), True),
    )
    (tmp_path / "some.jsonl").write_text(json.dumps({"prompt": "1 + 1?", "target": "2"}) + "\n")
    asked = lambda row: Problem(f"Say: {row['prompt']}", "")  # noqa: E731
    task = prompts_task("sums", tmp_path, None, file="some.jsonl", verifier=verifier, max_tokens=9, as_chat=asked)
    (item,) = task.items()
    assert (item.prompt, item.as_chat()) == ("1 + 1?", [{"role": "user", "content": "Say: 1 + 1?"}])
    assert task.score(item, "Answer: 2").metrics == {"exact_match": 1.0, "unparsable": 0.0, "exact_match_lenient": 1.0}
    assert task.score(item, "it is 2").metrics == {"exact_match": 0.0, "unparsable": 1.0, "exact_match_lenient": 1.0}


def test_a_part_of_what_is_asked_is_credit_but_no_exact_match(tmp_path: Path) -> None:
    verifier = SimpleNamespace(
        problem=lambda row: Problem(row["prompt"], "", row["half"]),
        score=lambda problem, reply: Grade(0.5, True, "half is missing"),
        lenient=None,
    )
    (tmp_path / "some.jsonl").write_text(json.dumps({"prompt": "1 + 1?", "half": ""}) + "\n")
    given = {"file": "some.jsonl", "verifier": verifier, "max_tokens": 9, "gives_credit": True}
    task = prompts_task("sums", tmp_path, None, **given)
    judged = task.score(next(task.items()), "2")
    assert judged.metrics == {"exact_match": 0.0, "unparsable": 0.0, "credit": 0.5}
    assert judged.why == "half is missing"
    (tmp_path / "some.jsonl").write_text(json.dumps({"prompt": "1 + 1?"}) + "\n")
    with pytest.raises(ValueError, match="item 0: the field half is missing; there are prompt"):
        list(task.items())
