"""Write a small Python function: right where all its hidden tests pass, in the sandbox; the level is how many steps.

The English, the worked function and the expected values all come from the same steps, and no text is ever run here.
"""

import json
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from inhouse.environments.environment import Dial, Grade, Problem, without_thoughts
from inhouse.environments.sandbox.shared import VERDICT_SECONDS, shared_sandbox
from inhouse.environments.verifiers.code import code_of

_TESTS = 8
_NAMES = ("combine", "compute", "evaluate", "process", "solve", "summarize", "tally", "transform")
_TEMPLATES = (
    "Write a Python function {name}(numbers) that takes a list of whole numbers, {does}. Answer with the function in "
    "one block of code.",
    "I need a Python function called {name}. It is given numbers, a list of whole numbers, {does}. Answer with one "
    "block of code.",
)


class _Step(NamedTuple):
    """What a step does to a list, in English and as Python; `apply` does it here."""

    english: str
    code: str
    apply: Callable[[list[int]], list[int]]


class _End(NamedTuple):
    """What is made of the list in the end."""

    english: str
    code: str
    apply: Callable[[list[int]], object]


def _steps(k: int) -> tuple[_Step, ...]:
    return (
        _Step("keeps the even ones", "[n for n in numbers if n % 2 == 0]", lambda x: [n for n in x if n % 2 == 0]),
        _Step("keeps the odd ones", "[n for n in numbers if n % 2 == 1]", lambda x: [n for n in x if n % 2 == 1]),
        _Step(f"keeps those above {k}", f"[n for n in numbers if n > {k}]", lambda x: [n for n in x if n > k]),
        _Step(f"drops the multiples of {k}", f"[n for n in numbers if n % {k}]", lambda x: [n for n in x if n % k]),
        _Step("squares each", "[n * n for n in numbers]", lambda x: [n * n for n in x]),
        _Step(f"adds {k} to each", f"[n + {k} for n in numbers]", lambda x: [n + k for n in x]),
        _Step(f"multiplies each by {k}", f"[n * {k} for n in numbers]", lambda x: [n * k for n in x]),
        _Step("reverses their order", "numbers[::-1]", lambda x: x[::-1]),
        _Step("drops the first of them", "numbers[1:]", lambda x: x[1:]),
        _Step(f"keeps the first {k} of them", f"numbers[:{k}]", lambda x: x[:k]),
        _Step("sorts them from small to large", "sorted(numbers)", sorted),
        _Step("keeps every second one, from the first on", "numbers[::2]", lambda x: x[::2]),
        _Step(
            "leaves out numbers that came before", "list(dict.fromkeys(numbers))", lambda x: list(dict.fromkeys(x))
        ),
    )  # fmt: skip


_ENDS = (
    _End("their sum", "sum(numbers)", sum),
    _End("how many there are", "len(numbers)", len),
    _End("the largest, or 0 where there is none", "max(numbers, default=0)", lambda x: max(x, default=0)),
    _End("the smallest, or 0 where there is none", "min(numbers, default=0)", lambda x: min(x, default=0)),
    _End("the list", "numbers", lambda x: x),
    _End("whether there are any", "len(numbers) > 0", lambda x: len(x) > 0),
)


def _function(rng: random.Random, level: int) -> tuple[str, Problem]:
    """Level 1 has one step before what is returned, level 4 has four."""
    steps: list[_Step] = []
    while len(steps) < level:
        step = rng.choice(_steps(rng.randint(2, 9)))
        if not steps or step.english != steps[-1].english:
            steps.append(step)
    end = rng.choice(_ENDS)
    name = rng.choice(_NAMES)
    said = [*(step.english for step in steps), f"returns {end.english}"]
    prompt = rng.choice(_TEMPLATES).format(name=name, does=", then ".join(said))
    body = [*(f"    numbers = {step.code}" for step in steps), f"    return {end.code}"]
    code = "\n".join([f"def {name}(numbers):", *body])
    tests = "\n".join(f"assert {name}({given}) == {_run(steps, end, given)!r}" for given in _given(rng))
    answer = json.dumps({"name": name, "tests": tests})
    return "; ".join(said), Problem(prompt, f"```python\n{code}\n```", answer)


def _given(rng: random.Random) -> list[list[int]]:
    """Inputs of the tests, an empty list and one with repeats among them."""
    lists = [[rng.randint(-20, 40) for _ in range(rng.randint(3, 12))] for _ in range(_TESTS - 2)]
    return [[], lists[0] + lists[0][:2], *lists]


def _run(steps: Sequence[_Step], end: _End, numbers: list[int]) -> object:
    for step in steps:
        numbers = step.apply(numbers)
    return end.apply(numbers)


def tests_pass(problem: Problem, reply: str) -> Grade:
    """1 where the function in the reply passes all tests of the problem's `answer`, `{"name", "tests"}`.

    Raises `ValueError` where this machine has no sandbox.
    """
    asked = json.loads(problem.answer or "")
    code = code_of(without_thoughts(reply), asked["name"])
    outcome = shared_sandbox().check(code, asked["tests"], [asked["name"]])
    is_parsed = not (outcome.why or "").startswith(("SyntaxError", "IndentationError"))
    return Grade(float(outcome.is_done), is_parsed, outcome.why, outcome.is_late)


FUNCTIONS = Dial("functions", 4, _function, tests_pass, seconds=VERDICT_SECONDS)
