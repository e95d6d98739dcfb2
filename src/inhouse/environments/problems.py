"""Problems made by code, each with its answer worked out in short steps and a strict check of the final answer.

Numbers up to 99 are added and subtracted digit by digit from the right, as on paper: a model that sees single digits
learns ten times ten facts and a carry, not ten thousand sums. A fifth of all problems (of the pairs, brackets and
words they are about, whatever the phrasing and the order) is held out: training never sees them.
"""

import random
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Literal, NamedTuple

Kind = Literal["addition", "subtraction", "brackets", "strings"]
Split = Literal["train", "heldout"]
LARGEST = 99
HELDOUT_ONE_IN = 5


class Problem(NamedTuple):
    """`worked` is a whole answer: short steps, then a last line `Answer: …` with the final `answer`."""

    kind: Kind
    prompt: str
    worked: str
    answer: str


def final_answer(reply: str) -> str | None:
    """What stands behind `Answer: ` in the last line of a reply, or None where it does not parse."""
    match = re.fullmatch(r"Answer: (\S.*)", reply.strip().rsplit("\n", 1)[-1].strip())
    return match[1] if match else None


def verify(problem: Problem, reply: str) -> bool:
    """Whether a reply's final answer is the problem's to the letter; one that does not parse is wrong."""
    return final_answer(reply) == problem.answer


def problems(kind: Kind, split: Split, seed: int) -> Iterator[Problem]:
    """An endless stream of problems, a pure function of its arguments; the two splits share no subject."""
    rng = random.Random(f"{kind}/{split}/{seed}")
    make = _MAKERS[kind]
    while True:
        subject, problem = make(rng)
        if is_heldout(subject) == (split == "heldout"):
            yield problem


def is_heldout(subject: str) -> bool:
    """Whether a subject (`17 42`, `([])`, `banana`) is held out: by its hash, so on every machine alike."""
    return int.from_bytes(sha256(subject.encode()).digest()[:8]) % HELDOUT_ONE_IN == 0


def _finish(kind: Kind, prompt: str, steps: list[str], answer: str) -> Problem:
    return Problem(kind, prompt, "\n".join([*steps, f"Answer: {answer}"]), answer)


def _addition(rng: random.Random) -> tuple[str, Problem]:
    a, b = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    prompt = rng.choice(_ADDITION_PHRASINGS).format(a=a, b=b)
    return _pair(a, b), _finish("addition", prompt, _addition_steps(a, b), str(a + b))


def _subtraction(rng: random.Random) -> tuple[str, Problem]:
    a, b = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    prompt = rng.choice(_SUBTRACTION_PHRASINGS).format(a=a, b=b)
    return _pair(a, b), _finish("subtraction", prompt, _subtraction_steps(a, b), str(a - b))


def _pair(a: int, b: int) -> str:
    """One subject for a+b, b+a, a-b and b-a: none of them tells about a held-out other."""
    return f"{min(a, b)} {max(a, b)}"


def _addition_steps(a: int, b: int) -> list[str]:
    """The columns from the right: for 47 + 35, `7 + 5 = 12`, then the tens and the carry, `4 + 3 + 1 = 8`."""
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    carry = int(ones_a + ones_b > 9)
    return [
        f"{a} + {b}",
        f"{ones_a} + {ones_b} = {ones_a + ones_b}",
        f"{tens_a} + {tens_b} + {carry} = {tens_a + tens_b + carry}",
    ]


def _subtraction_steps(a: int, b: int) -> list[str]:
    """The same with a borrow: for 42 - 17, `12 - 7 = 5`, then `4 - 1 - 1 = 2`; 17 - 42 is worked as -(42 - 17)."""
    if a < b:
        first, *steps = _subtraction_steps(b, a)
        return [f"-({first})", *steps]
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    borrow = int(ones_a < ones_b)
    ones_a += 10 * borrow
    return [
        f"{a} - {b}",
        f"{ones_a} - {ones_b} = {ones_a - ones_b}",
        f"{tens_a} - {tens_b} - {borrow} = {tens_a - tens_b - borrow}",
    ]


def _brackets(rng: random.Random) -> tuple[str, Problem]:
    """Whether brackets match; the steps are what is still open after each bracket, up to the first that is wrong."""
    text = _balanced(rng, rng.randint(1, 5))
    if rng.random() < 0.5:
        text = _broken(rng, text)
    steps, answer = _follow_brackets(text)
    return text, _finish("brackets", rng.choice(_BRACKET_PHRASINGS).format(text=" ".join(text)), steps, answer)


def _balanced(rng: random.Random, pairs: int) -> str:
    if not pairs:
        return ""
    inside = rng.randint(0, pairs - 1)
    opening, closing = rng.choice(("()", "[]", "{}"))
    return opening + _balanced(rng, inside) + closing + _balanced(rng, pairs - 1 - inside)


def _broken(rng: random.Random, text: str) -> str:
    place = rng.randrange(len(text))
    return text[:place] + rng.choice(("", rng.choice("()[]{}"))) + text[place + 1 :]


def _follow_brackets(text: str) -> tuple[list[str], str]:
    closing_of = {"(": ")", "[": "]", "{": "}"}
    expected = ""
    steps: list[str] = []
    for bracket in text:
        if bracket in closing_of:
            expected = closing_of[bracket] + expected
        elif expected.startswith(bracket):
            expected = expected[1:]
        else:
            return [*steps, f"{bracket} wrong"], "no"
        steps.append(f"{bracket} needs {' '.join(expected) or 'nothing'}")
    return steps, "no" if expected else "yes"


def _strings(rng: random.Random) -> tuple[str, Problem]:
    """A small task on a made-up word, which the steps spell first: a model sees pieces of words, not letters."""
    syllables = ("".join((rng.choice("bcdfghjklmnprstvwz"), rng.choice("aeiou"))) for _ in range(rng.randint(1, 3)))
    word = "".join(syllables) + rng.choice(("", rng.choice("lmnrst")))
    task = rng.choice(tuple(_STRING_TASKS))
    letter = rng.choice(word)
    steps, answer = _STRING_TASKS[task](word, letter)
    prompt = rng.choice(_STRING_PHRASINGS[task]).format(word=word, letter=letter)
    return word, _finish("strings", prompt, [f"{word}: {' '.join(word)}", *steps], answer)


def _reverse(word: str, letter: str) -> tuple[list[str], str]:
    return [" ".join(reversed(word))], word[::-1]


def _count(word: str, letter: str) -> tuple[list[str], str]:
    counts, seen = [], 0
    for each in word:
        seen += each == letter
        counts.append(f"{each}{seen}")
    return [" ".join(counts)], str(seen)


def _upper(word: str, letter: str) -> tuple[list[str], str]:
    return [" ".join(word.upper())], word.upper()


def _first(word: str, letter: str) -> tuple[list[str], str]:
    return [], word[0]


def _last(word: str, letter: str) -> tuple[list[str], str]:
    return [], word[-1]


def _sort(word: str, letter: str) -> tuple[list[str], str]:
    return [" ".join(sorted(word))], "".join(sorted(word))


_MAKERS: dict[Kind, Callable[[random.Random], tuple[str, Problem]]] = {
    "addition": _addition,
    "subtraction": _subtraction,
    "brackets": _brackets,
    "strings": _strings,
}
_ADDITION_PHRASINGS = (
    "What is {a} + {b}?",
    "{a} + {b} =",
    "Add {a} and {b}.",
    "Compute {a} plus {b}.",
    "What is the sum of {a} and {b}?",
)
_SUBTRACTION_PHRASINGS = (
    "What is {a} - {b}?",
    "{a} - {b} =",
    "Subtract {b} from {a}.",
    "Compute {a} minus {b}.",
    "What is left of {a} when {b} is taken away?",
)
_BRACKET_PHRASINGS = (
    "Do these brackets match? {text}",
    "Is every bracket closed in the right order: {text}",
    "Are the brackets {text} balanced?",
)
_STRING_TASKS: dict[str, Callable[[str, str], tuple[list[str], str]]] = {
    "reverse": _reverse,
    "count": _count,
    "upper": _upper,
    "first": _first,
    "last": _last,
    "sort": _sort,
}
_STRING_PHRASINGS = {
    "reverse": ("Reverse the word {word}.", "Write {word} backwards."),
    "count": ("How often does the letter {letter} occur in {word}?", "Count the letter {letter} in {word}."),
    "upper": ("Write {word} in capital letters.", "Turn {word} into upper case."),
    "first": ("What is the first letter of {word}?", "Which letter does {word} begin with?"),
    "last": ("What is the last letter of {word}?", "Which letter does {word} end with?"),
    "sort": ("Sort the letters of {word}.", "Put the letters of {word} in alphabetical order."),
}
