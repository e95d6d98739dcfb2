"""Programs: a function by its description, run on cases that nobody saw, in the sandbox; the share of cases counts."""

import random
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import CITIES, PEOPLE, PRODUCTS
from inhouse.environments.product.suite import Question, Suite, graded, user
from inhouse.environments.sandbox.limits import Limits
from inhouse.environments.sandbox.sandbox import Sandbox
from inhouse.environments.verifiers.code import code_of, defines

_CASES = 8
_LIMITS = Limits(seconds=3, wall_seconds=15.0)
_TASK = "Write a Python 3 function {text}\n\nUse the standard library only. Answer with the function in one code block."
_TESTS = """
passed = 0
for arguments, result in {cases!r}:
    try:
        passed += {name}(*arguments) == result
    except Exception:
        pass
assert passed == {count}, f"{mark} {{passed}} of {count}"
"""


class _Kind(NamedTuple):
    """`text` begins with the function's head, {a} is drawn from `sizes`, `case(rng, a)` gives a case's arguments."""

    name: str
    text: str
    source: str
    sizes: range
    case: Callable[[random.Random, int], list[Any]]


def _numbers(rng: random.Random, a: int) -> list[Any]:
    return [[rng.randint(-30, 60) for _ in range(rng.randint(3, 16))]]


def _words(rng: random.Random, a: int) -> list[Any]:
    words = [rng.choice((*CITIES, *PEOPLE, *PRODUCTS)) for _ in range(rng.randint(3, 14))]
    return [rng.choice((" ", "  ")).join(words)]


def _runs(rng: random.Random, a: int) -> list[Any]:
    return ["".join(rng.choice("abc") * rng.randint(1, a + 3) for _ in range(rng.randint(2, 8)))]


def _orders(rng: random.Random, a: int) -> list[Any]:
    people = rng.sample(PEOPLE, 5)
    return [[[rng.choice(people), rng.randint(1, 9), rng.randint(1, 30)] for _ in range(rng.randint(4, 14))]]


def _ranges(rng: random.Random, a: int) -> list[Any]:
    starts = [rng.randint(0, 80) for _ in range(rng.randint(3, 9))]
    return [[[start, start + rng.randint(1, 9)] for start in starts]]


def _coins(rng: random.Random, a: int) -> list[Any]:
    return [rng.randint(10, 90), sorted(rng.sample((2, 3, 5, 7, 11, 13, 20, 25), rng.randint(2, 4)))]


def _sums(rng: random.Random, a: int) -> list[Any]:
    text = str(rng.randint(1, 9))
    for _ in range(rng.randint(2, 5)):
        other = str(rng.randint(1, 9))
        other = f"({other}{rng.choice('+-@')}{rng.randint(1, 9)})" if rng.random() < 0.4 else other
        text += rng.choice("+-*@") + other
    return [text]


def _grid(rng: random.Random, a: int) -> list[Any]:
    height, width = rng.randint(3, 6), rng.randint(3, 6)
    rows = [[rng.choice("..##.") for _ in range(width)] for _ in range(height)]
    rows[0][0] = rows[-1][-1] = "."
    return [["".join(row) for row in rows]]


_KINDS: tuple[tuple[_Kind, ...], ...] = (
    (
        _Kind("sum_of_multiples", "`sum_of_multiples(values)` that gives the sum of those of the whole numbers in the "
              "list `values` that can be divided by {a}, and 0 where there are none.", """\
def sum_of_multiples(values):
    return sum(v for v in values if v % {a} == 0)
""", range(2, 13), _numbers),
        _Kind("long_names", "`long_names(text)` that counts the words of `text` (parted by white space) that begin "
              "with a capital letter and have at least {a} letters.", """\
def long_names(text):
    return sum(w[0].isupper() and len(w) >= {a} for w in text.split())
""", range(3, 10), _words),
    ),
    (
        _Kind("shortened", "`shortened(text)` that gives `text` with every run of {a} or more equal letters replaced "
              "by the letter and the run's length (`aaaa` by `a4`); shorter runs stay as they are.", """\
from itertools import groupby
def shortened(text):
    runs = [(c, len(list(g))) for c, g in groupby(text)]
    return "".join(f"{{c}}{{n}}" if n >= {a} else c * n for c, n in runs)
""", range(2, 10), _runs),
        _Kind("peaks", "`peaks(values)` that gives the list of the largest number of each {a} neighbours in the list "
              "`values`, from left to right, and an empty list where it has fewer than {a}.", """\
def peaks(values):
    return [max(values[i:i + {a}]) for i in range(len(values) - {a} + 1)]
""", range(2, 11), _numbers),
    ),
    (
        _Kind("best_customers", "`best_customers(orders)`. Each of `orders` is a list `[name, quantity, price]`. It "
              "gives a list of `[name, total]` for every name whose orders come to at least {a} together (quantity "
              "times price), the largest total first, equal ones by name.", """\
def best_customers(orders):
    totals = {{}}
    for name, quantity, price in orders:
        totals[name] = totals.get(name, 0) + quantity * price
    kept = [[n, t] for n, t in totals.items() if t >= {a}]
    return sorted(kept, key=lambda p: (-p[1], p[0]))
""", range(40, 200, 10), _orders),
        _Kind("merged", "`merged(ranges)`. Each of `ranges` is a list `[start, end]`. It gives the ranges sorted, "
              "those joined into one that overlap, or whose gap (start of the next less end of the one before) is "
              "at most {a}.",
              """\
def merged(ranges):
    done = []
    for start, end in sorted(ranges):
        if done and start - done[-1][1] <= {a}:
            done[-1][1] = max(done[-1][1], end)
        else:
            done.append([start, end])
    return done
""", range(1, 9), _ranges),
    ),
    (
        _Kind("fewest_coins", "`fewest_coins(amount, coins)` that gives the least number of coins that make `amount` "
              "exactly, where each kind of the list `coins` may be used at most {a} times, and -1 where it cannot "
              "be made.",
              """\
def fewest_coins(amount, coins):
    best = {{0: 0}}
    for coin in coins:
        new = dict(best)
        for made, count in best.items():
            for k in range(1, {a} + 1):
                total = made + k * coin
                if total <= amount and count + k < new.get(total, 10**9):
                    new[total] = count + k
        best = new
    return best.get(amount, -1)
""", range(1, 7), _coins),
        _Kind("worked_out", "`worked_out(text)` that gives the value of `text`, an expression of whole numbers, `+`, "
              "`-`, `*`, `@` and parentheses without blanks. `x@y` is {a} times x plus y; it binds more tightly than "
              "`*`, and all four go from left to right.", """\
import re
def worked_out(text):
    tokens = re.findall(r"\\\\d+|.", text) + [""]
    def value():
        token = tokens.pop(0)
        if token == "(":
            x = total()
            tokens.pop(0)
            return x
        return int(token)
    def level(inner, acts):
        x = inner()
        while tokens[0] in acts:
            act = acts[tokens.pop(0)]
            x = act(x, inner())
        return x
    def at():
        return level(value, {{"@": lambda x, y: {a} * x + y}})
    def product():
        return level(at, {{"*": lambda x, y: x * y}})
    def total():
        return level(product, {{"+": lambda x, y: x + y, "-": lambda x, y: x - y}})
    return total()
""", range(2, 12), _sums),
        _Kind("fewest_steps", "`fewest_steps(rows)`. `rows` are texts of equal length, a map of `.` (free) and `#` "
              "(wall). It gives the least number of steps (up, down, left, right) from the upper left to the lower "
              "right place, on a way that enters at most {a} walls, and -1 where there is none.", """\
from collections import deque
def fewest_steps(rows):
    height, width = len(rows), len(rows[0])
    seen, queue = {{(0, 0, 0)}}, deque([(0, 0, 0, 0)])
    while queue:
        y, x, walls, steps = queue.popleft()
        if (y, x) == (height - 1, width - 1):
            return steps
        for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= v < height and 0 <= u < width:
                more = walls + (rows[v][u] == "#")
                if more <= {a} and (v, u, more) not in seen:
                    seen.add((v, u, more))
                    queue.append((v, u, more, steps + 1))
    return -1
""", range(3), _grid),
    ),
)  # fmt: skip


def _make(rng: random.Random, level: int) -> Question:
    kind = rng.choice(_KINDS[level - 1])
    question = _ask(rng, kind)
    while len({repr(result) for _, result in question.expected["cases"]}) < _CASES // 2:  # no one value is nearly right
        question = _ask(rng, kind)
    return question


def _ask(rng: random.Random, kind: _Kind) -> Question:
    a = rng.choice(kind.sizes)
    source = kind.source.replace("\\\\", "\\").format(a=a)
    scope: dict[str, Any] = {}
    exec(source, scope)  # one of the programs above
    given = [kind.case(rng, a) for _ in range(_CASES)]
    cases = [[arguments, scope[kind.name](*arguments)] for arguments in given]
    return Question(
        [user(_TASK.format(text=kind.text.format(a=a)))], {"name": kind.name, "cases": cases, "source": source}
    )


@cache
def _sandbox() -> Sandbox:
    return Sandbox(_LIMITS)


def check_sandbox() -> None:
    """Raises `ValueError` with a sentence where this machine cannot hold in what a model wrote."""
    _sandbox().run("pass")


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    name, cases = expected["name"], expected["cases"]
    code = code_of(reply, name)
    if not defines(code, name):
        return Grade(0.0, False, f"no function {name}")
    mark = secrets.token_hex(16)  # so that no error of the reply's own looks like the tests' verdict
    tests = _TESTS.format(cases=cases, name=name, count=len(cases), mark=mark)
    outcome = _sandbox().check(code, tests, [name])
    if outcome.is_done:
        return graded(1.0, [])
    why = outcome.why or "it did not end"
    if mark not in why:
        return Grade(0.0, not why.startswith(("SyntaxError", "IndentationError")), why, outcome.is_late)
    passed = int(why.partition(mark)[2].split()[0])
    # one case of eight may be luck
    return graded(passed / len(cases) if passed > 1 else 0.0, [f"right on {passed} of {len(cases)} cases"])


def _solve(expected: Mapping[str, Any]) -> str:
    return f"```python\n{expected['source']}```"


PROGRAMS = Suite("programs", 1500, _make, _check, _solve, check_sandbox)
