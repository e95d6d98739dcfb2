"""Short stories with a number for an answer; the level is how many things happen. The number may be written any way."""

import random
from collections.abc import Callable
from typing import NamedTuple

from inhouse.environments.environment import Dial, Grade, Problem, last_answer, lenient_match, worked_problem
from inhouse.environments.numbers import number_of

_PEOPLE = ("Ana", "Ben", "Chen", "Dina", "Emre", "Fay", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")
_THINGS = ("apples", "books", "cards", "coins", "eggs", "marbles", "pencils", "stamps", "stones", "tickets")


class _Event(NamedTuple):
    """A sentence about a number n, what it does to a count, and how that is written."""

    sentence: str
    apply: Callable[[int, int], int]
    sign: str
    is_possible: Callable[[int, int], bool] = lambda count, n: True


_EVENTS = (
    _Event("{who} finds {n} more.", lambda count, n: count + n, "+"),
    _Event("A friend brings {n} {things}.", lambda count, n: count + n, "+"),
    _Event("{who} gives away {n} of them.", lambda count, n: count - n, "-", lambda count, n: n < count),
    _Event("{n} of the {things} get lost.", lambda count, n: count - n, "-", lambda count, n: n < count),
    _Event("Then there are {n} times as many.", lambda count, n: count * n, "*", lambda count, n: 2 <= n <= 5),
    _Event(
        "{who} shares them equally among {n} boxes and keeps one box.",
        lambda count, n: count // n,
        "/",
        lambda count, n: 2 <= n <= 9 and count > n and count % n == 0,
    ),
)


def _word_problem(rng: random.Random, level: int) -> tuple[str, Problem]:
    who, things = rng.choice(_PEOPLE), rng.choice(_THINGS)
    count = start = rng.randint(2, 30)
    sentences, steps = [f"{who} has {start} {things}."], list[str]()
    while len(steps) < level:
        event, n = rng.choice(_EVENTS), rng.randint(2, 20)
        if event.is_possible(count, n):
            sentences.append(event.sentence.format(who=who, things=things, n=n))
            steps.append(f"{count} {event.sign} {n} = {event.apply(count, n)}")
            count = event.apply(count, n)
    question = f"How many {things} does {who} have now?"
    return " ".join(steps), worked_problem(" ".join([*sentences, question]), steps, str(count))


def same_number(problem: Problem, reply: str) -> Grade:
    """1 where the last line is `Answer: ` and holds one number, the problem's: `1,200 eggs` for 1200."""
    number = number_of(last_answer(reply) or "")
    if number is None:
        return Grade(0.0, False, 'the last line is not "Answer: " and one number')
    if number == number_of(problem.answer or ""):
        return Grade(1.0, True)
    return Grade(0.0, True, f"{float(number):g} is not {problem.answer}")


WORD_PROBLEMS = Dial("word_problems", 6, _word_problem, same_number, lenient_match)
