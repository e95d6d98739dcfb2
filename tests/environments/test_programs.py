"""Programs whose output is what Python prints, in this process and in the sandbox."""

import sys

import pytest

from inhouse.environments.programs import PROGRAMS, trace
from inhouse.environments.sandbox.sandbox import Sandbox


def program_of(prompt: str) -> str:
    return prompt.split("\n\n")[1]


def test_the_sandbox_prints_the_same():
    problems = [
        each for level in range(1, PROGRAMS.levels + 1) for each in PROGRAMS.at(level).draw("train", 40, 0, None)
    ]
    with Sandbox() as sandbox:
        try:
            outcome = sandbox.run("".join(f"{program_of(each.prompt)}\n" for each in problems))
        except ValueError as refused:
            pytest.skip(str(refused))
    assert outcome.why is None
    assert outcome.output.split() == [each.answer for each in problems]


def test_steps_are_what_variables_held():
    before = sys.gettrace()
    assert trace("a = 1\nfor i in range(2):\n    a = a + i\n    b = 2\nprint(a)") == (
        ["a = 1", "i = 0", "b = 2", "i = 1", "a = 2"], "2",
    )  # fmt: skip
    with pytest.raises(NameError):
        trace("open('x')")
    assert sys.gettrace() is before


def test_levels_have_what_they_say():
    drawn = [[each.prompt for each in PROGRAMS.at(level).draw("train", 50, 0, None)] for level in (1, 2, 3, 4, 5)]
    counts = [[sum(word in prompt for prompt in prompts) for word in ("if ", "for i", "for j")] for prompts in drawn]
    assert counts == [[0, 0, 0], [50, 0, 0], [0, 50, 0], [50, 50, 0], [0, 50, 50]]
    assert max(len(each.worked) for each in PROGRAMS.at(5).draw("train", 200, 1, None)) < 400
