"""The board: scores beside evalica's, coverage of its intervals, a million votes, logs that were tampered with.

python -m venv /tmp/evalica && /tmp/evalica/bin/pip install evalica
PYTHONPATH=src .venv/bin/python bench/arena.py --data ../shared/data/arena/llmfao --peer /tmp/evalica/bin/python --write
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.arena.tamper import KINDS_OF_TAMPERING, make_log, tamper, watch

from inhouse.arena.battles import Battles
from inhouse.arena.board import make_board, rate
from inhouse.arena.fewest_votes import fewest_votes
from inhouse.arena.ratings import MEAN_SCORE, POINTS_PER_UNIT, count_rows, fit
from inhouse.arena.reader import read_battles

RESULTS = Path(__file__).parent / "results" / "arena.md"
PEER = """
import sys, json, numpy, pandas, evalica
votes = pandas.read_csv(sys.argv[1])
meaning = {"left": evalica.Winner.X, "right": evalica.Winner.Y, "tie": evalica.Winner.Draw}
found = evalica.bradley_terry(votes.left, votes.right, votes.winner.map(meaning), tolerance=1e-15, limit=100_000)
theta = numpy.log(found.scores); theta -= theta.mean()
print(json.dumps(theta.to_dict()))
"""
BOARDS, VOTES, MODELS = 1_000, 1_000_000, 100


def beside_evalica(path: Path, python: Path) -> str:
    """A row of the table: the largest difference in theta and in points."""
    theirs = json.loads(subprocess.run([python, "-c", PEER, path], check=True, capture_output=True, text=True).stdout)
    battles = read_battles(path)
    theta_M = fit(count_rows(battles), len(battles.models)).theta_M
    worst = max(abs(theta_M[m] - theirs[name]) for m, name in enumerate(battles.models))
    return f"| {path.name} | {len(battles):,} | {len(battles.models)} | {worst:.1e} | {POINTS_PER_UNIT * worst:.1e} |"


def simulated(rng: np.random.Generator, theta_M: np.ndarray, N: int, ties: float, style: np.ndarray | None) -> Battles:
    """Votes drawn from the model: a share of them ties, which with chance 1/2 take a half-point from either."""
    M = len(theta_M)
    left_N = rng.integers(0, M, N)
    right_N = (left_N + rng.integers(1, M, N)) % M
    style_NS = None if style is None else rng.uniform(-1, 1, (N, len(style)))
    margin_N = theta_M[left_N] - theta_M[right_N]
    if style_NS is not None:
        margin_N = margin_N + (style_NS / np.sqrt((style_NS**2).mean(0))) @ style
    chance_N = 1 / (1 + np.exp(-margin_N))
    # a tie where two independent votes of this chance differ: half a point, and the mean stays the chance
    first_N, second_N = (rng.random(N) < chance_N for _ in range(2))
    points_N = np.where(rng.random(N) < ties, (first_N.astype(float) + second_N) / 2, first_N)
    unknown_N = np.full(N, -1)
    names = tuple(f"model-{m:03d}" for m in range(M))
    return Battles(names, left_N, right_N, points_N, np.full(N, 2), (), unknown_N, {}, style_NS)


def coverage(boards: int, M: int, N: int, reweight: bool, style: np.ndarray | None) -> str:
    """Share of all intervals of all boards that hold the true score."""
    rng, held, all_, width = np.random.default_rng(0), 0, 0, 0.0
    for _ in range(boards):
        theta_M = rng.normal(0, 1, M)
        battles = simulated(rng, theta_M - theta_M.mean(), N, 0.5, style)
        rated = rate(battles, style is not None, reweight)
        if len(rated.battles.models) < M:
            continue
        true = {name: MEAN_SCORE + POINTS_PER_UNIT * t
                for name, t in zip(battles.models, theta_M - theta_M.mean(), strict=True)}  # fmt: skip
        for row in make_board(battles, rated).rows:
            held, all_, width = held + (row.low <= true[row.model] <= row.high), all_ + 1, width + row.high - row.low
    kind = ("style" if style is not None else "plain") + (", pairs alike" if reweight else "")
    error = np.sqrt(0.95 * 0.05 / boards)
    return (f"| {kind} | {boards:,} | {M} | {N:,} | {100 * held / all_:.2f} ± {100 * error:.2f} % of {all_:,} | "
            f"{width / all_:.0f} points |")  # fmt: skip


def million() -> list[str]:
    """Seconds for a million votes: from arrays, and read from a file."""
    rng = np.random.default_rng(1)
    battles = simulated(rng, rng.normal(0, 1, MODELS), VOTES, 0.3, np.array([0.3, 0.1, 0.05, 0.05]))
    rows = []
    for what, with_style in (("scores and intervals, counted", False), ("with style control", True)):
        tries = [_seconds(lambda style=with_style: make_board(battles, rate(battles, style))) for _ in range(3)]
        rows.append(_times(what, tries))
    rated = rate(battles)
    rows.append(_times("fewest votes that the top hangs on", [_seconds(lambda: fewest_votes(rated))]))
    with tempfile.TemporaryDirectory(prefix="inhouse-arena-") as name:
        path = Path(name) / "votes.csv"
        path.write_text(_as_csv(battles))
        rows.append(_times("beside it, reading a CSV of them with style", [_seconds(lambda: read_battles(path))]))
    return rows


def _as_csv(battles: Battles) -> str:
    text, rng = io.StringIO(), np.random.default_rng(2)
    names = [f"{side}_{feature}" for side in ("left", "right") for feature in ("length", "headers", "bold", "lists")]
    text.write(f"left,right,winner,{','.join(names)}\n")
    counts = rng.integers(0, 500, (len(battles), len(names))).tolist()
    winner = {1.0: "left", 0.5: "tie", 0.0: "right"}
    for left, right, points, row in zip(battles.left_N, battles.right_N, battles.points_N, counts, strict=True):
        text.write(f"{battles.models[left]},{battles.models[right]},{winner[points]},{','.join(map(str, row))}\n")
    return text.getvalue()


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock and of CPU time."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def _times(what: str, tries: list[tuple[float, float]]) -> str:
    return (
        f"| {what} | {min(clock for clock, _ in tries):.2f} s | {max(cpu for _, cpu in tries):.2f} s | {_load():.1f} |"
    )


def _load() -> float:
    return os.getloadavg()[0]


def tampered(tries: int) -> list[str]:
    """A row for every way of tampering: how often it was found, and the entry named."""
    draw, found, named, done = random.Random(0), Counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory(prefix="inhouse-arena-") as name:
        log = make_log(Path(name), votes=40)
        for number in range(tries):
            kind = KINDS_OF_TAMPERING[number % len(KINDS_OF_TAMPERING)]
            findings, names = watch(log, tamper(log, kind, draw))
            done[kind] += 1
            found[kind] += bool(findings)
            named[kind] += names
    return [f"| {kind} | {done[kind]} | {found[kind]} | {named[kind]} |" for kind in KINDS_OF_TAMPERING]


def trust(path: Path) -> list[str]:
    """What the real votes show."""
    battles = read_battles(path)
    rated = rate(battles)
    found = fewest_votes(rated)
    assert found is not None
    planted = replace(battles, points_N=1 - battles.points_N, left_N=battles.right_N, right_N=battles.left_N)
    assert make_board(planted, rate(planted)).rows == make_board(battles, rated).rows, "sides may be exchanged"
    return [f"Without {found.removed} of {found.votes:,} votes {found.challenger} is above {found.top}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder llmfao")
    parser.add_argument("--peer", type=Path, required=True, help="a python that has evalica")
    parser.add_argument("--boards", type=int, default=BOARDS)
    parser.add_argument("--tries", type=int, default=2_000, help="logs that are tampered with")
    parser.add_argument("--write", action="store_true", help=f"write results/{RESULTS.name}")
    given = parser.parse_args()
    style = np.array([0.4, 0.2, 0.1, 0.1])
    text = "\n".join([
        "# The board", "", *(f"    {line}" for line in __doc__.splitlines()[2:]), "",
        f"{os.cpu_count()} cores, numpy {np.__version__}.", "",
        "## Beside evalica (bar: 1e-8)", "", "| votes | count | models | largest difference of theta | of a score |",
        "| --- | --- | --- | --- | --- |",
        *(beside_evalica(given.data / f, given.peer) for f in ("crowd-comparisons.csv", "gpt4-crowd-comparisons.csv")),
        "", *trust(given.data / "crowd-comparisons.csv"), "",
        "## Intervals that hold the true score (bar: 93 to 97 %)", "",
        "| board | boards | models | votes | held | mean width |", "| --- | --- | --- | --- | --- | --- |",
        coverage(given.boards, 20, 2_000, False, None), coverage(given.boards, 20, 2_000, True, None),
        coverage(given.boards, 20, 2_000, False, style), "",
        f"## {VOTES:,} votes, {MODELS} models (bar: 2 s with intervals and style control)", "",
        "| what | by the clock, best of 3 | CPU time, worst | load of the machine |", "| --- | --- | --- | --- |",
        *million(), "",
        "## Tampering", "", "| what was done to a log | tries | found | entry named |", "| --- | --- | --- | --- |",
        *tampered(given.tries),
    ])  # fmt: skip
    print(text)
    if given.write:
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
