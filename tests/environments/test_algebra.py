"""Linear equations: the solution solves the equation, and each line of the way to it."""

import re

import pytest

from inhouse.environments.algebra import ALGEBRA


def holds(equation: str, x: int) -> bool:
    code = re.sub(r"(\d)([x(])", r"\1*\2", equation).replace("=", "==")
    return eval(code, {"x": x})


@pytest.mark.parametrize("level", range(1, ALGEBRA.levels + 1))
def test_the_solution_solves_every_line(level):
    for problem in ALGEBRA.at(level).draw("train", 200, 0, None):
        equation = re.search(r"[-\dx(][^?:]* = [^?]*", problem.prompt.replace("What is x if ", ""))[0]
        *steps, _ = problem.worked.split("\n")
        assert all(holds(line, int(problem.answer)) for line in (equation, *steps)), (problem, equation)
        assert ("(" in equation, equation.count("x")) == (level == 4, 1 + (level > 2))
        assert len(steps) <= level
