"""Problems whose replies a program checks: the worked reply is right, streams stay, splits share no subject."""

import json
from hashlib import sha256

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.made.function_calls import NOTHING_FITS
from inhouse.environments.registry import environment_of
from inhouse.environments.sandbox.shared import shared_sandbox
from inhouse.environments.verifiers.calls import calls_of, written


def digest(problems) -> str:
    return sha256(json.dumps([list(problem) for problem in problems]).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", [f"{kind}:{level}" for kind in ("instructions", "function_calls") for level in (1, 4)])
def test_worked_replies_are_worth_everything_and_the_question_is_no_answer(name):
    environment = environment_of(name)
    trained, heldout = (list(environment.draw(split, 60, 0, None)) for split in ("train", "heldout"))
    assert len(trained) == len({each.prompt for each in heldout}) == 60
    assert not {each.prompt for each in trained} & {each.prompt for each in heldout}
    for problem in trained:
        assert environment.score(problem, problem.worked) == Grade(1, True)
        assert environment.score(problem, f"<think>\nWell.\n</think>\n\n{problem.worked}") == Grade(1, True)
        assert environment.score(problem, "").score == 0
    assert environment.level == int(name[-1])


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_worked_functions_pass_their_tests(level):
    """The worked text is our own, so it may run here; what a model wrote runs in the sandbox."""
    for problem in environment_of(f"functions:{level}").draw("train", 40, 0, None):
        asked = json.loads(problem.answer)
        scope: dict = {}
        exec(problem.worked.removeprefix("```python\n").removesuffix("\n```"), scope)
        exec(asked["tests"], scope)
        assert asked["tests"].count("assert") == 8
        assert "assert" not in problem.prompt


def test_functions_are_run_in_the_sandbox():
    environment = environment_of("functions:2")
    (problem,) = environment.draw("train", 1, 0, None)
    name = json.loads(problem.answer)["name"]
    try:
        shared_sandbox().run("")
    except ValueError as error:
        pytest.skip(str(error))
    assert environment.score(problem, f"Here it is:\n{problem.worked}\nIt works.") == Grade(1, True)
    wrong = environment.score(problem, f"```python\ndef {name}(numbers):\n    return None\n```")
    assert wrong[:2] == (0, True)
    assert environment.score(problem, "I cannot.")[:2] == (0, False)
    assert environment.seconds > 10  # the sandbox's own time, so that a busy machine is no verdict


def test_calls_that_are_right_in_part_are_worth_a_part():
    environment = environment_of("function_calls:4")
    problem = next(iter(environment.draw("train", 1, 0, None)))
    calls, _ = calls_of(problem.worked)
    assert len(calls) == 3
    assert len(json.loads(problem.tools)) == 8
    assert environment.score(problem, written(calls[::-1])) == Grade(1, True)
    assert environment.score(problem, written(calls[:2])).score == pytest.approx(2 / 3)
    assert environment.score(problem, written([*calls, calls[0]])).score == pytest.approx(3 / 4)
    assert environment.score(problem, problem.worked + "<tool_call>{</tool_call>").score == pytest.approx(3 / 4)
    assert environment.score(problem, NOTHING_FITS)[:2] == (0, False)


def test_no_call_is_right_where_no_function_fits():
    environment = environment_of("function_calls:3")
    unfit = [each for each in environment.draw("train", 60, 0, None) if each.answer == "[]"]
    assert 5 < len(unfit) < 30
    assert environment.score(unfit[0], "no function fits") == Grade(1, True)
    call = written([("get_weather", {"place": "Cusco", "days": 3})])
    assert environment.score(unfit[0], call) == Grade(0, True, "a call where no function fits")
    assert environment.score(unfit[0], "Hm.")[:2] == (0, False)


@pytest.mark.parametrize(
    ("name", "train"),
    [
        ("instructions:3", "2f9592a102509256"),
        ("function_calls:2", "bf5d91030342e4da"),
        ("functions:3", "7c7bedda396be10e"),
    ],
)
def test_streams_stay_what_they_were(name, train):
    assert digest(environment_of(name).draw("train", 20, 1, None)) == train
