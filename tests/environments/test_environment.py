"""The shape that environments share: pure streams, splits that share no subject, a strict check of the last line."""

import random

import pytest

from inhouse.environments.environment import Grade, Problem, exact_match, generated, is_heldout, worked_problem


def _dice(rng: random.Random) -> tuple[str, Problem]:
    number = rng.randint(1, 6)
    return f"die {number}", worked_problem(f"What shows {number} pips?", ["A die."], str(number))


DICE = generated("dice", _dice)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_problems_are_a_pure_function_of_split_count_and_seed(split):
    sides = generated("sides", lambda rng: (str(rng.random()), worked_problem(str(rng.random()), [], "x")))
    problems = list(sides.draw(split, 20, 0, None))
    assert len(problems) == 20
    assert problems == list(sides.draw(split, 20, 0, None))
    assert problems[:5] == list(sides.draw(split, 5, 0, None))
    assert not set(problems) & set(sides.draw(split, 20, 1, None))
    renamed = generated("other", lambda rng: (str(rng.random()), worked_problem(str(rng.random()), [], "x")))
    assert not set(problems) & set(renamed.draw(split, 20, 0, None))
    assert list(sides.draw(split, 0, 0, None)) == []


def test_a_small_environment_repeats_itself_in_training_and_never_among_the_held_out():
    heldout = {number for number in range(1, 7) if is_heldout(f"die {number}")}
    assert 0 < len(heldout) < 6
    trained = [int(problem.answer) for problem in DICE.draw("train", 60, 0, None)]
    assert len(trained) == 60
    assert set(trained) == set(range(1, 7)) - heldout
    asked = [int(problem.answer) for problem in DICE.draw("heldout", 60, 0, None)]
    assert sorted(asked) == sorted(heldout)  # all there are, and an end
    assert len(list(DICE.draw("heldout", 10**9, 0, None))) == len(heldout)  # at once, whatever was asked for


def test_the_worked_reply_is_worth_everything():
    problem = worked_problem("What is 40 + 2?", ["40 + 2", "0 + 2 = 2"], "42")
    assert problem.worked == "40 + 2\n0 + 2 = 2\nAnswer: 42"
    assert exact_match(problem, problem.worked) == exact_match(problem, problem.worked + "\n") == Grade(1, True)


@pytest.mark.parametrize(
    "reply", ["", "42", "Answer:", "Answer: ", "answer: 42", "Answer: 42\nor 43", "The Answer: 42"]
)
def test_what_does_not_parse_is_worth_nothing_and_known_as_such(reply):
    assert exact_match(Problem("", "", "42"), reply) == Grade(0, False, 'the last line is not "Answer: " and an answer')


@pytest.mark.parametrize("reply", ["40 + 2\nAnswer: 43", "Answer: 43", "Answer: 42 or 43", "Answer: 42."])
def test_a_wrong_answer_parses(reply):
    grade = exact_match(Problem("", "", "42"), reply)
    assert grade[:2] == (0, True)
    assert grade.why.endswith('" is not "42"')


def test_the_split_is_the_same_everywhere():
    heldout = [subject for subject in ("0 0", "1 2", "17 25", "([])", "banana") if is_heldout(subject)]
    assert heldout == ["17 25", "banana"]
