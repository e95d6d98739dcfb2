"""Functions judged by their unit tests, in the sandbox: a row by hand, and the data set's own solutions where it is."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.eval_data import eval_file

from inhouse.environments.environment import Grade
from inhouse.environments.sandbox.limits import Limits
from inhouse.environments.sandbox.sandbox import Sandbox
from inhouse.environments.verifiers.human_eval import chat_problem, human_eval, human_eval_problem
from inhouse.environments.verifiers.verifier import read_rows

ROW = {
    "prompt": "from typing import List\n\n\ndef helper(x):\n    return x\n\n\n"
    'def total(xs: List[int]) -> int:\n    """Sum."""\n',
    "entry_point": "total",
    "canonical_solution": "    return sum(helper(x) for x in xs)\n",
    "test": "def check(candidate):\n    assert candidate([helper(1), 2]) == 3\n    assert candidate([]) == 0\n",
}
RIGHT = "def total(xs: List[int]) -> int:\n    return sum(map(helper, xs))"


@pytest.fixture(scope="module")
def verifier():
    with Sandbox(Limits(seconds=2, wall_seconds=30.0)) as sandbox:
        try:
            sandbox.run("")
        except ValueError as refused:
            pytest.skip(str(refused))
        yield human_eval(sandbox)


@pytest.mark.parametrize(
    "reply",
    [
        ROW["canonical_solution"],
        ROW["canonical_solution"] + "\n\ndef main():\n    1 +\n",
        f"Here it is:\n```python\n{RIGHT}\n```\nIt sums.",
        f"```python\n{ROW['prompt']}    return sum(xs)\n```",
        f"```\n{ROW['canonical_solution']}```",
        RIGHT,
    ],
)
def test_right_replies_in_any_form(verifier, reply):
    assert verifier.score(human_eval_problem(ROW), reply) == Grade(1, True)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("    return 0\n", "AssertionError at: assert candidate([helper(1), 2]) == 3"),
        ("    return 1 +\n", "SyntaxError: invalid syntax"),
        ("    import sys; sys.exit(0)\n", "RuntimeError: the solution ended"),
        ("", "AssertionError"),
        (RIGHT.replace("sum", "summed"), "NameError: name 'summed' is not defined"),
    ],
)
def test_wrong_replies_are_told_why(verifier, reply, why):
    grade = verifier.score(human_eval_problem(ROW), reply)
    assert grade[:2] == (0, "Syntax" not in why)
    assert why in grade.why


def test_what_a_chat_model_is_asked_and_answers(verifier):
    problem = chat_problem(ROW)
    assert '    """Sum."""\n```' in problem.prompt
    assert verifier.score(problem, problem.worked) == Grade(1, True)


def test_the_data_sets_own_solutions_pass(verifier):
    rows = read_rows(eval_file("humaneval/HumanEval.jsonl.gz"))[::6]  # all 164 pass; a sixth is enough each time
    problems = [verifier.problem(row) for row in rows]
    with ThreadPoolExecutor(2) as threads:
        grades = list(threads.map(lambda each: verifier.score(each, each.worked), problems))
    assert [grade.why for grade in grades if grade.score < 1] == []
