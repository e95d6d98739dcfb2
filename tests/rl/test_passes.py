"""pass@k of sampled answers, in form and without."""

from collections.abc import Iterator
from pathlib import Path

from tests.rl.tiny_engine import new_engine

from inhouse.environments.environment import Environment, Grade, Problem
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.rl.passes import sampled_passes
from inhouse.rl.sampling import Asked


def draw(split: str, count: int, seed: int, data: Path | None) -> Iterator[Problem]:
    return iter(())


def lenient(problem: Problem, reply: str) -> Grade:
    return Grade(1.0, True)


def test_strictly_an_answer_ends_and_leniently_it_need_not():
    forgiving, strict = Environment("forgiving", draw, lenient=lenient), Environment("strict", draw)
    asked = [Asked(strict, Problem("a?", "", "x")), *(Asked(forgiving, Problem(f"{n}?", "", "x")) for n in range(3))]
    seen = []

    def grade(asks):
        seen.extend(asks)
        return [Grade(1.0, True) for _ in asks]

    found = sampled_passes(new_engine(), CHAT_TEMPLATE, asked, grade, [1, 4], 6, 0)
    assert set(found) == {
        "strict/pass@1/strict", "strict/pass@4/strict", "strict/pass@1/forgiving", "strict/pass@4/forgiving",
        "lenient/pass@1/forgiving", "lenient/pass@4/forgiving",
    }  # fmt: skip
    assert [ask.environment for ask in seen] == ["strict"] * 4 + ["forgiving"] * 12
    assert found["lenient/pass@1/forgiving"].value == 1
    assert 0 < found["strict/pass@1/forgiving"].value < found["strict/pass@4/forgiving"].value  # some are cut off
    assert found["strict/pass@4/forgiving"].count == 3
