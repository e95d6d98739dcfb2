"""BIG-Bench Hard: what stands behind `the answer is`."""

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.verifiers.bbh import BBH, bbh_problem


@pytest.mark.parametrize(
    ("target", "reply", "strict", "lenient"),
    [
        ("False", "not True is False. So the answer is False.", 1, 1),
        ("False", "So the answer is true.", 0, 0),
        ("False", "the answer is: **false**", 0, 1),
        ("(B)", "So the answer is (B).", 1, 1),
        ("(B)", "So the answer is (B) the sun.", 0, 1),
        ("(B)", "So the answer is B", 0, 1),
        ("(B)", "So the answer is (C) and not (B).", 0, 0),
        ("(B)", "(B)", 0, 1),
        ("] ]", "So the answer is ] ].", 1, 1),
        ("] ]", "So the answer is ] ] ].", 0, 0),
        ("-50", "So the answer is -50.\n\nQ: and the answer is 3", 1, 0),
        ("barn damp", "So the answer is barn  damp", 0, 1),
        ("barn damp", "", 0, 0),
        ("Yes", "Yes", 0, 1),
    ],
)
def test_replies(target, reply, strict, lenient):
    problem = bbh_problem({"input": "?", "target": target})
    assert BBH.score(problem, reply).score == strict
    assert BBH.lenient(problem, reply).score == lenient
    assert BBH.score(problem, problem.worked) == Grade(1, True)
    assert BBH.score(problem, reply).is_parsed == ("answer is" in reply)


def test_it_says_why():
    problem = bbh_problem({"input": "?", "target": "Yes"})
    assert BBH.score(problem, "the answer is No.").why == '"No" is not "Yes"'
    assert BBH.score(problem, "No").why == 'it nowhere says "the answer is"'
