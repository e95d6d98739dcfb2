"""The one shape of an environment: it draws problems for a split, and may hold a scorer of replies to them.

Most make their problems by code, endlessly: a generator draws a subject (a pair of numbers, a word), puts it into a
prompt template and works the answer out in short steps. A fifth of all subjects is held out, whatever the template.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.data.documents import Split
from inhouse.environments.numbers import number_of, numbers_in

HELDOUT_ONE_IN = 5
FRUITLESS_DRAWS = 1_000  # in a row: then nearly all of the different problems of an environment are drawn


class Problem(NamedTuple):
    """`worked` is the whole reply that fine-tuning teaches, "" where none is known; `answer` what a scorer looks for in
    one, if any does. `tools` are definitions of functions, a JSON list, that a reply may call as its answer: nobody
    carries them out.
    """

    prompt: str
    worked: str
    answer: str | None = None
    tools: str = ""


class Grade(NamedTuple):
    """What a reply is worth, between 0 and 1, whether it has the form that the scorer reads (if not: 0), and why not 1.

    `is_late`: the scorer ended the work on it for its time, so that another machine may find otherwise.
    """

    score: float
    is_parsed: bool
    why: str | None = None
    is_late: bool = False


Scorer = Callable[[Problem, str], Grade]


class Tool(NamedTuple):
    """A function that a model may call before it answers: its definition as a message has it, and what carries it out.

    `run` takes the arguments of a call and gives the text that comes back; it raises nothing.
    """

    definition: dict[str, Any]
    run: Callable[[dict[str, Any]], str]


class Environment(NamedTuple):
    """A source of problems: `draw(split, count, seed, data)` and, where replies can be checked, `score`.

    `draw` gives `count` problems, or fewer where there are no more: a pure function of its arguments, and no subject
    is in both splits. `data` is the data stage's folder, where there is one: some environments ask about documents.

    `lenient` forgives the form, so that form and skill can be told apart. `level` counts from the easiest, 1, where
    problems have levels. `tools` may be called before the answer. `seconds`: what a verifier that bounds itself (its
    programs run in the sandbox) may take at most; None where a few are plenty.
    """

    name: str
    draw: Callable[[Split, int, int, Path | None], Iterable[Problem]]
    score: Scorer | None = None
    lenient: Scorer | None = None
    level: int | None = None
    tools: tuple[Tool, ...] = ()
    seconds: float | None = None


Generator = Callable[[random.Random], tuple[str, Problem]]  # a subject (`17 42`, `([])`, `banana`), a problem on it


def generated(name: str, generate: Generator, score: Scorer | None = None) -> Environment:
    """The environment of an endless generator. Training may see a problem twice; those held out are all different.

    Replies are scored by `exact_match`, and leniently by `lenient_match`, where no scorer is given.
    """

    def draw(split: Split, count: int, seed: int, data: Path | None) -> Iterator[Problem]:
        rng = random.Random(f"{name}/{split}/{seed}")
        asked: set[str] = set()
        num_drawn = num_fruitless = 0
        while num_drawn < count and num_fruitless < FRUITLESS_DRAWS:
            subject, problem = generate(rng)
            num_fruitless += 1
            if is_heldout(subject) == (split == "heldout") and problem.prompt not in asked:
                yield problem
                num_drawn, num_fruitless = num_drawn + 1, 0
                if split == "heldout":
                    asked.add(problem.prompt)

    return Environment(name, draw, score or exact_match, None if score else lenient_match)


class Dial(NamedTuple):
    """A kind of problems from easy to hard: level 1 is the easiest, `levels` the hardest.

    Each level is an environment of its own, called `NAME:LEVEL`, with a held-out fifth of its own subjects.
    """

    name: str
    levels: int
    generate: Callable[[random.Random, int], tuple[str, Problem]]
    score: Scorer | None = None
    lenient: Scorer | None = None
    seconds: float | None = None

    def at(self, level: int) -> Environment:
        """Raises `ValueError` where there is no such level."""
        if not 1 <= level <= self.levels:
            raise ValueError(f"{self.name} has the levels 1 to {self.levels}, not {level}")
        made = generated(f"{self.name}:{level}", lambda rng: self.generate(rng, level), self.score)
        return made._replace(lenient=self.lenient or made.lenient, level=level, seconds=self.seconds)


def is_heldout(subject: str) -> bool:
    """Whether a subject is held out: by its hash, so on every machine alike."""
    return int.from_bytes(sha256(subject.encode()).digest()[:8]) % HELDOUT_ONE_IN == 0


def worked_problem(prompt: str, steps: list[str], answer: str) -> Problem:
    """The problem whose reply is these steps and a last line `Answer: …`."""
    return Problem(prompt, "\n".join([*steps, f"Answer: {answer}"]), answer)


def exact_match(problem: Problem, reply: str) -> Grade:
    """1 where the last line of a reply is `Answer: ` and the problem's answer, to the letter."""
    found = last_answer(reply)
    if found is None:
        return Grade(0.0, False, 'the last line is not "Answer: " and an answer')
    return compared(found, problem.answer)


def lenient_match(problem: Problem, reply: str) -> Grade:
    """1 whatever the answer's case, spaces and full stop, and without `Answer: `; of numbers the last of the reply."""
    answer = problem.answer or ""
    if is_number(answer) and numbers_in(reply)[-1:] == [number_of(answer)]:
        return Grade(1.0, True)
    found = last_answer(reply) or reply.strip().rsplit("\n", 1)[-1]
    return compared(_plain(found), _plain(answer))


def is_number(text: str) -> bool:
    """Whether the text is a number and hardly anything else: `$5` is one, `5 little pigs` is not."""
    return number_of(text) is not None and sum(each.isalpha() for each in text) == 0


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")


def without_thoughts(reply: str) -> str:
    """The thinking that some models put first is not part of the reply."""
    return re.sub(r"^\s*<think>.*?</think>", "", reply, flags=re.DOTALL)


def last_answer(reply: str) -> str | None:
    """What stands behind `Answer: ` in the last line of a reply, if that is how it begins."""
    match = re.fullmatch(r"Answer: (\S.*)", reply.strip().rsplit("\n", 1)[-1].strip())
    return match[1] if match else None


def compared(found: str, answer: str | None) -> Grade:
    """1 where what was found in a reply is the answer."""
    return Grade(1.0, True) if found == answer else Grade(0.0, True, f'"{found[:100]}" is not "{answer}"')
