"""Problems: right answers, strict checks, and no held-out subject in training whatever its phrasing or order."""

import re
from itertools import islice
from typing import get_args

import pytest

from inhouse.environments.problems import Kind, final_answer, is_heldout, problems, verify

KINDS = get_args(Kind)


def take(kind: Kind, split: str, count: int = 400, seed: int = 0) -> list:
    return list(islice(problems(kind, split, seed), count))


@pytest.mark.parametrize("kind", KINDS)
def test_worked_answers_pass_their_own_check(kind):
    for problem in take(kind, "train"):
        assert verify(problem, problem.worked)
        assert verify(problem, problem.worked + "\n")
        assert problem.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_is_a_pure_function_of_its_seed(kind):
    assert take(kind, "train", 20) == take(kind, "train", 20)
    assert take(kind, "train", 20) != take(kind, "train", 20, seed=1)
    assert len({problem.prompt for problem in take(kind, "heldout", 200)}) > 50


def numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def test_sums_and_differences_are_right_and_their_steps_are_true():
    for problem in take("addition", "train"):
        assert int(problem.answer) == sum(numbers(problem.prompt))
    for problem in take("subtraction", "train"):
        a, b = numbers(problem.prompt)
        if problem.prompt.startswith("Subtract"):
            a, b = b, a
        assert int(problem.answer) == a - b
    for problem in [*take("addition", "train"), *take("subtraction", "heldout")]:
        for step in problem.worked.split("\n")[1:-1]:
            left, right = step.split(" = ")
            terms = [int(term) for term in left.replace(" - ", " + -").split(" + ")]
            assert sum(terms) == int(right)


def test_held_out_pairs_never_occur_in_training_in_either_order():
    def pairs(split: str) -> set[tuple[int, ...]]:
        kinds = ("addition", "subtraction")
        return {tuple(sorted(numbers(each.prompt))) for kind in kinds for each in take(kind, split, 10_000)}

    trained, heldout = pairs("train"), pairs("heldout")
    assert not trained & heldout
    assert 0.17 < len(heldout) / (len(trained) + len(heldout)) < 0.23
    assert all(number <= 99 for pair in trained | heldout for number in pair)


def test_brackets_are_judged_as_a_stack_judges_them():
    answers = set()
    for problem in take("brackets", "train"):
        text = re.sub(r"[^()\[\]{}]", "", problem.prompt)
        while text != (text := re.sub(r"\(\)|\[\]|\{\}", "", text)):
            pass
        assert problem.answer == ("no" if text else "yes")
        answers.add(problem.answer)
    assert answers == {"yes", "no"}


def test_string_answers_are_right():
    checks = {
        r"Reverse the word (\w+)|Write (\w+) backwards": lambda word: word[::-1],
        r"Write (\w+) in capital|Turn (\w+) into": str.upper,
        r"first letter of (\w+)|does (\w+) begin": lambda word: word[0],
        r"last letter of (\w+)|does (\w+) end": lambda word: word[-1],
        r"letters of (\w+)\.|letters of (\w+) in alphabetical": lambda word: "".join(sorted(word)),
    }
    counting = r"letter (\w) occur in (\w+)|letter (\w) in (\w+)"
    for problem in take("strings", "train"):
        if match := re.search(counting, problem.prompt):
            letter, word = filter(None, match.groups())
            assert problem.answer == str(word.count(letter))
            continue
        (match, solve), *others = [(m, f) for regex, f in checks.items() if (m := re.search(regex, problem.prompt))]
        assert not others
        assert problem.answer == solve(next(filter(None, match.groups())))


@pytest.mark.parametrize(
    "reply", ["", "42", "Answer:", "Answer: ", "answer: 42", "Answer: 42\nor 43", "The Answer: 42"]
)
def test_what_does_not_parse_is_wrong_and_known_as_such(reply):
    problem = take("addition", "train", 1)[0]._replace(answer="42")
    assert final_answer(reply) is None
    assert not verify(problem, reply)


def test_a_wrong_answer_parses():
    problem = take("addition", "train", 1)[0]._replace(answer="42")
    assert final_answer("40 + 2\nAnswer: 43") == "43"
    assert not verify(problem, "Answer: 43")
    assert not verify(problem, "Answer: 42 or 43")
    assert not verify(problem, "Answer: 42.")


def test_the_split_is_the_same_everywhere():
    heldout = [subject for subject in ("0 0", "1 2", "17 25", "([])", "banana") if is_heldout(subject)]
    assert heldout == ["17 25", "banana"]
