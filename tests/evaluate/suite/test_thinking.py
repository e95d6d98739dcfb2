"""Verifiers judge answers, not the thinking before them."""

import pytest

from inhouse.evaluate.results import Answer
from inhouse.evaluate.suite.summary import judged_again
from inhouse.evaluate.suite.thinking import without_thinking
from inhouse.evaluate.tasks.task import Item, Judged, Task


@pytest.mark.parametrize(
    ("reply", "prompt", "answer"),
    [
        ("<think>\na, b\n</think>\n\nc", "", "c"),
        ("a, b\n</think>\n\nc", "<think>\n", "c"),
        ("a, b</think>c", "", "c"),  # an endpoint that leaves both marks' place to its client
        ("<think>a, b", "", ""),
        ("a, b", "<|im_start|>assistant\n<think>\n", ""),
        ("a, b", "", "a, b"),
        ("write <think> and </think>", "", "write <think> and </think>"),
    ],
)
def test_the_answer_is_what_stands_behind(reply: str, prompt: str, answer: str) -> None:
    assert without_thinking(reply, prompt) == answer


def test_a_kept_answer_is_judged_without_its_thinking() -> None:
    task = Task("t", "generation", list, score=lambda item, reply: Judged({"no_comma": float("," not in reply)}, "so"))
    kept = Answer("t", "0", 0, None, "", "", None, "<think>a, b</think>c", {}, [], 0.0, 0, 0)
    again = judged_again(task, Item({}, "q"), kept)
    assert again is not None
    assert (again.metrics, again.why, again.output) == ({"no_comma": 1.0}, "so", kept.output)
