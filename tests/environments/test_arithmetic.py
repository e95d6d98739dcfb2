"""Sums and differences: right answers, true steps, and no held-out pair in training whatever its order."""

import re

from inhouse.environments.arithmetic import ADDITION, SUBTRACTION


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def test_sums_and_differences_are_right():
    for problem in ADDITION.draw("train", 400, 0, None):
        assert int(problem.answer) == sum(numbers(problem.prompt))
    for problem in SUBTRACTION.draw("train", 400, 0, None):
        a, b = numbers(problem.prompt)
        if problem.prompt.startswith("Subtract"):
            a, b = b, a
        assert int(problem.answer) == a - b


def test_steps_are_true_and_lead_to_the_answer():
    for problem in [*ADDITION.draw("train", 400, 0, None), *SUBTRACTION.draw("heldout", 400, 0, None)]:
        first, *steps, last = problem.worked.split("\n")
        assert last == f"Answer: {problem.answer}"
        digits = ""
        for step in steps:
            left, right = step.split(" = ")
            terms = [int(term) for term in left.replace(" - ", " + -").split(" + ")]
            assert sum(terms) == int(right)
            digits = (right[-1] if step is not steps[-1] else right) + digits
        assert int(digits) == abs(int(problem.answer))
        assert first.startswith("-(") == problem.answer.startswith("-")


def test_held_out_pairs_never_occur_in_training_in_either_order():
    def pairs(split: str) -> set[tuple[int, ...]]:
        problems = [each for environment in (ADDITION, SUBTRACTION) for each in environment.draw(split, 4_000, 0, None)]
        return {tuple(sorted(numbers(problem.prompt))) for problem in problems}

    trained, heldout = pairs("train"), pairs("heldout")
    assert not trained & heldout
    assert 0.17 < len(heldout) / (len(trained) + len(heldout)) < 0.27  # not all that may be trained on were drawn
    assert {number for pair in trained | heldout for number in pair} == set(range(100))
