"""Word problems: strict reads the last line's mark, lenient what the reply says at its end."""

import pytest

from inhouse.environments.environment import Grade
from inhouse.environments.verifiers.gsm8k import GSM8K, gsm8k_problem

ROW = {"question": "Ducks?", "answer": "She sells 16 - 7 = <<16-7=9>>9.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18"}
DUCKS = gsm8k_problem(ROW)


def test_a_row_is_a_problem_whose_working_is_worth_everything():
    assert DUCKS[:3] == ("Ducks?", "She sells 16 - 7 = 9.\nShe makes 9 * 2 = $18.\n#### 18", "18")
    assert GSM8K.score(DUCKS, DUCKS.worked) == GSM8K.lenient(DUCKS, DUCKS.worked) == Grade(1, True)


@pytest.mark.parametrize(
    "reply", ["#### 18", "####18.00", "#### $18", "x\n#### 18 dollars a day", "#### 18\n\nQ: Eggs?\n#### 3"]
)
def test_strict(reply):
    assert GSM8K.score(DUCKS, reply) == Grade(1, True)


@pytest.mark.parametrize(
    ("reply", "is_parsed", "why"),
    [
        ("#### 17", True, "17 is not 18"),
        ("#### -18", True, "-18 is not 18"),
        ("18", False, 'no line with "####"'),
        ("#### eighteen", False, 'no number behind "####", but "eighteen"'),
        ("#### 2\n#### 18", True, "2 is not 18"),
    ],
)
def test_strict_says_why_not(reply, is_parsed, why):
    assert GSM8K.score(DUCKS, reply) == Grade(0, is_parsed, why)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("So she makes 9 * 2 = $18.", 1), (r"It is \boxed{18} then, for 7 days.", 1), ("The answer is $18, not 9.", 1),
        ("The answer: 18 (of 20)", 1), (r"\boxed{\$18.00}", 1), (r"\boxed{\frac{36}{2}}", 1), ("#### 18, or 19", 1),
        ("It was 18, then 9", 0), ("none", 0), ("", 0), ("#### 9 and not 18", 0),
    ],
)  # fmt: skip
def test_lenient(reply, score):
    assert GSM8K.lenient(DUCKS, reply).score == score


def test_values_are_compared_and_not_letters():
    thousand = gsm8k_problem({"question": "?", "answer": "#### 1,000"})
    assert all(GSM8K.score(thousand, f"#### {each}").score == 1 for each in ("1000", "1,000", "1000.0", "$1,000"))


def test_a_row_without_a_number_is_refused():
    with pytest.raises(ValueError, match="does not end with"):
        gsm8k_problem({"question": "?", "answer": "18"})
