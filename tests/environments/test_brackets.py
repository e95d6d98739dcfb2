"""Brackets, judged as a stack judges them."""

import re

from inhouse.environments.brackets import BRACKETS


def test_answers_and_steps_are_those_of_a_stack():
    answers = set()
    for problem in BRACKETS.draw("train", 400, 0, None):
        text = re.sub(r"[^()\[\]{}]", "", problem.prompt)
        *steps, _ = problem.worked.split("\n")
        assert "".join(step[0] for step in steps) == text[: len(steps)]
        while text != (text := re.sub(r"\(\)|\[\]|\{\}", "", text)):
            pass
        assert problem.answer == ("no" if text else "yes")
        assert (problem.answer == "yes") == bool(not steps or steps[-1].endswith("needs nothing"))
        answers.add(problem.answer)
    assert answers == {"yes", "no"}
