"""Code: what a short Python program prints, and which value makes it print something. No reply is ever run.

The programs are ours, made from templates, and are run once, when an item is made, to know what they print.
"""

import random
from collections.abc import Mapping
from types import CodeType
from typing import Any

from inhouse.environments.environment import Grade
from inhouse.environments.product.names import CITIES, COLOURS, PEOPLE
from inhouse.environments.product.suite import Question, Suite, graded, user, without_fence

_PRINTED = (
    "What does this Python 3 program print? Answer with exactly what it prints, in one code block.\n\n```python\n"
)
_FILLED = (
    "Which whole number from 0 to 999 must stand for `HOLE`, so that this Python 3 program prints {wanted}? If there "
    "are several, give the smallest. Answer with the number alone, in one code block.\n\n```python\n"
)


def _make(rng: random.Random, level: int) -> Question:
    if rng.random() < 0.25:
        return _hole(rng, level)
    source = rng.choice((_loops, _tables, _texts, _objects, _recursion))(rng, level)
    printed = _run(source)
    return Question([user(f"{_PRINTED}{source}```")], {"lines": printed})


def _run(program: str | CodeType, **names: Any) -> list[str]:
    """What one of our own programs prints."""
    printed: list[str] = []
    scope = {"print": lambda *values: printed.append(" ".join(map(str, values))), **names}
    exec(program, scope)
    return printed


def _loops(rng: random.Random, level: int) -> str:
    a, b, c, d = rng.randint(2, 6), rng.randint(3, 7), rng.randint(2, 5), rng.randint(1, 9)
    ends = rng.choice(("continue", "break"))
    inner = "" if level < 3 else f"        if (i * j) % {c + 1} == 0:\n            {ends}\n"
    extra = "" if level < 4 else f"    while total > {20 * a}:\n        total -= {b * 3}\n        hits += 1\n"
    return (
        f"total, hits = {d}, 0\nfor i in range({1 + level}):\n    for j in range(i, i + {min(level + 1, 4)}):\n{inner}"
        f"        if (i + j) % {c} == 0:\n            hits += 1\n        total += i * {a} - j * {rng.randint(1, 2)}\n"
        f"{extra}    print(i, total, hits)\n"
    )


def _tables(rng: random.Random, level: int) -> str:
    words = [rng.choice((*COLOURS, *CITIES)).lower() for _ in range(3 + 2 * level)]
    key = rng.choice(("word[0]", "len(word)", "word[-1]"))
    tail = (
        f"print(sum(len(v) * i for i, v in enumerate(table.values())) % {rng.randint(7, 13)})\n" if level >= 2 else ""
    )
    more = "" if level < 3 else f"for k in list(table)[::{rng.choice((2, 3))}]:\n    table[k] = table[k][::-1][:2]\n"
    order = (
        "sorted(table)" if level < 3 else f"sorted(table, key=lambda k: (-len(table[k]), str(k)), reverse={level == 4})"
    )
    return (
        f"words = {words}\ntable = {{}}\nfor word in words:\n    table.setdefault({key}, []).append(word)\n{more}"
        f"for k in {order}:\n    print(k, '-'.join(table[k]))\n{tail}"
    )


def _texts(rng: random.Random, level: int) -> str:
    text = " ".join(rng.sample((*CITIES, *PEOPLE), 1 + level)).lower()
    step, cut = rng.choice((2, 3, -1, -2)), rng.randint(1, 4)
    lines = [
        f"text = {text!r}",
        f"print(text[{cut}::{step}])",
        f"print(text.find({rng.choice(text.replace(' ', ''))!r}, {cut}))",
    ]
    if level >= 2:
        lines.append(f"print('|'.join(w[-{cut}:] + w[:-{cut}] for w in text.split()))")
    if level >= 3:
        lines.append(
            f"print(''.join(chr((ord(c) - 97 + {rng.randint(3, 9)}) % 26 + 97) for c in text if c != ' ')[:9])"
        )
    if level >= 4:
        lines.append(
            "print(sorted({c: text.count(c) for c in text if c in 'aeiou'}.items(), key=lambda p: (p[1], p[0])))"
        )
    return "\n".join(lines) + "\n"


def _objects(rng: random.Random, level: int) -> str:
    """Where two names are one list, and what a default remembers."""
    a, b, c = (rng.randint(1, 9) for _ in range(3))
    lines = [f"a = [{a}, {b}]", "b = a", f"b.append({c})", "print(a, a is b)"]
    if level >= 2:
        lines += [f"c = a[:]; c[{rng.randint(0, 2)}] = 0", f"a += [{a + c}]", "print(sum(a), sum(b), sum(c))"]
    if level >= 3:
        lines += [
            f"def f(x, seen=[{b}]):",
            "    seen.append(x)",
            f"    return len(seen) * {c} + seen[0]",
            "f(1)",
            f"print(f({a}), f({b}, []), f(3))",
        ]
    if level >= 4:
        lines += [
            f"grid = [[{a}] * 2] * 3", f"grid[1][0] = {c}", "fs = [lambda k: k * i for i in range(4)]",
            "print(grid[0], grid[2], fs[0](5), [*map(lambda r: r[-1] // -2, grid)][1])",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _recursion(rng: random.Random, level: int) -> str:
    a, b, m = rng.randint(2, 4), rng.randint(1, 5), rng.randint(3, 5)
    calls = [rng.randint(3 + 2 * level, 6 + 3 * level) for _ in range(1 + level // 2)]
    if level == 1:
        rule = f"f(n - {a}) + n"
    elif level == 2:
        rule = f"f(n - 1) * {a} - n if n % {m} else f(n // 2) + {b}"
    else:
        rule = f"f(n // 2) + f(n - {a}) if n % {m} else f(n - 1) - {b}"
    return f"def f(n):\n    return {b} if n < 2 else {rule}\n\n" + "".join(f"print(f({n}))\n" for n in calls)


def _hole(rng: random.Random, level: int) -> Question:
    a, b, m = rng.randint(3, 9), rng.randint(2, 30), rng.choice((11, 13, 17, 19, 23)) * level
    steps = "".join(f"x = (x * {rng.randint(2, 9)} + {rng.randint(1, 30)}) % {m * 3 + n}\n" for n in range(level - 1))
    source = f"x = HOLE\nx = (x * {a} + {b}) % {m * 3 + 1}\n{steps}print(x)\n"
    (wanted,) = _run(source, HOLE=rng.randint(0, 999))
    program = compile(source, "<item>", "exec")
    smallest = next(n for n in range(1000) if _run(program, HOLE=n) == [wanted])
    asked = _FILLED.format(wanted=wanted)
    return Question([user(f"{asked}{source}```")], {"lines": [str(smallest)]})


def _check(expected: Mapping[str, Any], reply: str) -> Grade:
    """The share of lines that stand where they must; lines too many count against it."""
    wanted = [line.rstrip() for line in expected["lines"]]
    given = [line.rstrip() for line in without_fence(reply).strip("\n").splitlines()]
    right = sum(a == b for a, b in zip(wanted, given, strict=False))
    score = right / max(len(wanted), len(given), 1)
    wrong = [f"line {n}: not {a!r}" for n, a in enumerate(wanted, 1) if n > len(given) or given[n - 1] != a]
    wrong += [f"{len(given)} lines, not {len(wanted)}"] if len(given) > len(wanted) else []
    return graded(score, wrong)


def _solve(expected: Mapping[str, Any]) -> str:
    return "```\n" + "\n".join(expected["lines"]) + "\n```"


CODE = Suite("code", 2048, _make, _check, _solve)
