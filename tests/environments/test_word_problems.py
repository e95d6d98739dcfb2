"""Stories of numbers: each step is right and follows the one before; the answer may be written in any way."""

import re

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.word_problems import WORD_PROBLEMS, same_number


@pytest.mark.parametrize("level", range(1, WORD_PROBLEMS.levels + 1))
def test_steps_follow_from_each_other(level):
    signs = set()
    for problem in WORD_PROBLEMS.at(level).draw("train", 300, 0, None):
        *steps, last = problem.worked.split("\n")
        assert len(steps) == level
        count = re.search(r"has (\d+)", problem.prompt)[1]
        for step in steps:
            left, right = step.split(" = ")
            assert left.split()[0] == count
            assert eval(left) == int(right) > 0
            assert f" {left.split()[2]} " in f" {problem.prompt}"
            count = right
            signs.add(left.split()[1])
        assert last == f"Answer: {count}"
    assert signs == set("+-*/")


@pytest.mark.parametrize("reply", ["Answer: 1200", "1 + 1\nAnswer: 1,200 eggs.", "Answer: $1200.00"])
def test_a_number_is_one_however_written(reply):
    problem = next(iter(WORD_PROBLEMS.at(1).draw("train", 1, 0, None)))._replace(answer="1200")
    assert same_number(problem, reply) == Grade(1, True)
    assert same_number(problem, reply.replace("2", "3")) == Grade(0, True, "1300 is not 1200")
    assert same_number(problem, f"{reply} 7").is_parsed is False
    assert same_number(problem, f"{reply}\nSo it is.") == Grade(
        0, False, 'the last line is not "Answer: " and one number'
    )
