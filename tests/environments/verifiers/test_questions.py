"""A user's own questions and answers."""

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.verifiers.questions import QUESTIONS, question_problem


@pytest.mark.parametrize(
    ("answer", "reply", "strict", "lenient"),
    [
        ("Paris", "It is so.\nAnswer: Paris", 1, 1),
        ("Paris", "Answer: paris.", 0, 1),
        ("Paris", "Paris", 0, 1),
        ("Paris", "Answer: Rome", 0, 0),
        ("Paris", "Paris or Rome", 0, 0),
        (1200, "Answer: 1,200 euros", 1, 1),
        ("1,200", "Answer: 1200", 1, 1),
        ("$5", "so 3 + 2 = 5.", 0, 1),
        ("$5", "Answer: 6", 0, 0),
        ("5 little pigs", "Answer: 5 big wolves", 0, 0),
        ("5 little pigs", "Answer: 5 little  pigs", 0, 1),
        ("yes", "", 0, 0),
    ],
)
def test_replies(answer, reply, strict, lenient):
    problem = question_problem({"question": "?", "answer": answer})
    assert QUESTIONS.score(problem, reply).score == strict
    assert QUESTIONS.lenient(problem, reply).score == lenient
    assert QUESTIONS.score(problem, problem.worked) == QUESTIONS.lenient(problem, problem.worked) == Grade(1, True)


def test_a_whole_reply_may_be_given():
    row = {"question": "?", "answer": "4", "worked": "2 + 2 = 4\nAnswer: 4"}
    assert question_problem(row)[:3] == ("?", row["worked"], "4")


@pytest.mark.parametrize(("answer", "why"), [("", "empty"), (" \n", "empty"), ("a\nb", "longer than a line")])
def test_what_cannot_be_checked_is_refused(answer, why):
    with pytest.raises(ValueError, match=f"the answer is {why}"):
        question_problem({"question": "?", "answer": answer})
