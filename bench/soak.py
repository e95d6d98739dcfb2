"""Every kind of fault at many random instants, then hundreds of them in one long job: nothing may be lost.

.venv/bin/python bench/soak.py --tries 20 --kills 200      a table kind → tries, survived
.venv/bin/python bench/soak.py --storm 300 --mean 3        one job, struck every three seconds on average
.venv/bin/python bench/soak.py --kind "disk full" --seed 7  one fault again
"""

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
sys.path[:0] = [str(ROOT)]

from tests.resilience.endure import Bench, endure, install_all  # noqa: E402
from tests.resilience.faults import KINDS  # noqa: E402
from tests.resilience.job import LAYOUTS, Job, attempt, differences, prepare, result  # noqa: E402
from tests.resilience.strike import Spec, struck  # noqa: E402
from tests.resilience.strikes import forget_failures  # noqa: E402

from inhouse.common.processes import RankLost  # noqa: E402
from inhouse.resilience.goodput import describe, goodput, read_times  # noqa: E402

RESULTS = Path(__file__).parent / "results"
ANY_INSTANT = "kill -9 of a rank"
KILL_ALL = "kill -9 of all ranks"


class Tally(NamedTuple):
    """What came of the tries of one kind."""

    survived: int
    failed: dict[int, str]  # by seed

    @property
    def tries(self) -> int:
        return self.survived + len(self.failed)


def try_once(name: str, seed: int, bench: Bench, folder: Path, seconds: float) -> str | None:
    """What was broken of the promise, if anything; None where the job ended before the fault's instant."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        try:
            return "" if endure(name, seed, bench, Path(place) / "job", seconds) else None
        except Exception as error:
            print(f"{name}, seed {seed}: {error}", flush=True)
            return f"{type(error).__name__}: {error}"


def soak(tries: int, kills: int, jobs: int, folder: Path) -> dict[str, Tally]:
    """The table, one try of every kind after the other, `jobs` at a time, as far as it came: Ctrl-C ends it."""
    benches = {layout: Bench(folder, layout) for layout in LAYOUTS}
    for bench in benches.values():
        _ = bench.halfway  # the pipeline handles signals, so jobs are made in the main thread
    pool, start = ThreadPoolExecutor(jobs), time.monotonic()
    for ended in pool.map(attempt, [benches["experts"].fresh.copy(folder / f"timed-{i}") for i in range(jobs)]):
        assert ended.status == 0, ended.said
    seconds = time.monotonic() - start  # of an attempt, beside others
    table = {name: Tally(0, {}) for name in KINDS}
    wanted = dict.fromkeys(KINDS, tries) | {ANY_INSTANT: kills}
    try:
        for first in itertools.count(1, jobs):
            left = [
                (name, first + more)
                for more in range(jobs)
                for name in KINDS
                if table[name].tries + more < wanted[name]
            ]
            if not left:
                break
            under_way = {
                pool.submit(try_once, name, seed, benches[KINDS[name].layout], folder, seconds): (name, seed)
                for name, seed in left
            }
            for done in as_completed(under_way):
                (name, seed), wrong = under_way[done], done.result()
                if wrong == "":
                    table[name] = table[name]._replace(survived=table[name].survived + 1)
                elif wrong is not None:
                    table[name].failed[seed] = wrong
            survived, tried = (sum(getattr(tally, what) for tally in table.values()) for what in ("survived", "tries"))
            print(f"{survived} of {tried} tries survived, of {sum(wanted.values())} to come", flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    return table


# one long job


STORM_KINDS = [
    name
    for name, kind in KINDS.items()
    if kind.layout == "experts" and kind.reference is None and kind.repeats == 1 and (kind.fails or kind.damage)
]


_PATIENCE = 4  # seconds of the watchdog
_SHARE_OF_STEPS = 0.9  # of the time between two faults, at most: the job must outlast them


class Storm(NamedTuple):
    """What a storm came to."""

    struck: dict[str, int]
    given_up: int  # attempts that the watchdog ended with no fault in them
    wrong: list[str]
    booked: float  # goodput by the ledger
    implied: float  # by the harness's own times
    split: str


def storm(faults: int, mean: float, folder: Path, seed: int = 0, steps: int | None = None) -> Storm:
    """One job with a fault every `mean` seconds until there were so many; compared with the same job left alone."""
    chance = Random(f"storm {seed}")
    rate = steps_a_second(folder)
    steps = steps or max(200, round(faults * mean * rate * _SHARE_OF_STEPS))
    sets = ("pretrain.checkpoint_every=10", "pretrain.spike_window=1000", f"parallel.timeout_seconds={_PATIENCE}")
    job = prepare(folder / "job", "experts", *sets, steps=steps)
    whole = job.copy(folder / "whole")
    print(f"{steps} steps at {rate:.0f} a second; first without a fault", flush=True)
    longest = 60.0 + 4 * steps / rate
    ended = attempt(whole, longest=longest)
    assert ended.status == 0, ended.said
    counts: dict[str, int] = {}
    given_up = 0
    start, waiting = time.monotonic(), ""  # a fault that strikes at the start of the next attempt
    while not (job.run / "pretrain").exists():
        specs = [Spec(waiting, chance.randrange(10**6), -1)] if waiting else []
        is_over = sum(counts.values()) >= faults
        name = chance.choice(STORM_KINDS)
        after = KINDS[name].damage is not None or KINDS[name].at_start
        if not is_over:
            specs.append(Spec(KILL_ALL if after else name, chance.randrange(10**6), 0, chance.expovariate(1 / mean)))
        ended = attempt(job, partial(install_all, tuple(specs), job.folder), longest)
        if struck(job.folder):
            hit = specs[0].kind if waiting or not after else ""
            counts |= {hit: counts.get(hit, 0) + 1} if hit else {}
        elif ended.status and "ended alike" in ended.said:
            forget_failures(job)
        elif ended.status == RankLost.exit_status:
            given_up += 1  # the machine is too busy for the watchdog's short patience here; a restart is the remedy
        elif ended.status:
            raise AssertionError(f"an attempt failed with no fault in it:\n{ended.said}")
        if ended.status and (act := KINDS[specs[0].kind].act) is not None and (job.folder / "kept").exists():
            act(job)
        waiting = ""
        if ended.status and after and not is_over:
            waiting = name if KINDS[name].at_start else ""
            damage = KINDS[name].damage
            if damage and len(list((job.output / "checkpoints").glob("step-*"))) >= 2:
                damage(job, chance)
                counts[name] = counts.get(name, 0) + 1
        print(f"{sum(counts.values())} of {faults} faults, step {job.newest_whole():,} of {steps:,}", flush=True)
    wall = time.monotonic() - start
    split = read_times(job.output)
    assert split is not None
    wrong = differences(result(whole), result(job))
    return Storm(counts, given_up, wrong, goodput(split), productive(job) / wall, describe(split))


def steps_a_second(folder: Path) -> float:
    job = prepare(folder / "timed-steps", "experts", "pretrain.checkpoint_every=10", steps=150)
    ended = attempt(job)
    assert ended.status == 0, ended.said
    ((times),) = step_times(job)
    return 1 / statistics.median(b - a for (_, a), (_, b) in pairwise(times))


def step_times(job: Job) -> list[list[tuple[int, float]]]:
    """Of each attempt: the steps that rank 0 began, and when."""
    lines = [path.read_text().split("\n")[:-1] for path in sorted(job.folder.glob("attempt-*/tokens-0.txt"))]
    return [[(int(line.split()[0]), float(line.split()[2])) for line in each] for each in lines]


def productive(job: Job) -> float:
    """Seconds of steps begun for the first time and not cut short, by the harness's own notes; each up to the median.

    Above the median lies what is no fault's doing: a save, a busy machine.
    """
    furthest, seconds = 0, []
    for times in step_times(job):
        for (step, begun), (_, next_begun) in pairwise(times):
            if step > furthest:
                seconds.append(next_begun - begun)
                furthest = step
    return sum(min(each, statistics.median(seconds[max(0, i - 64) : i + 1])) for i, each in enumerate(seconds))


def report_soak(table: dict[str, Tally]) -> list[str]:
    lines = ["| kind | tries | survived |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {tally.tries} | {tally.survived} |" for name, tally in table.items()]
    for name, tally in table.items():
        lines += [f"\nfailed: `--kind '{name}' --seed {seed}`" for seed in tally.failed]
    return lines


def report_storm(storm: Storm) -> list[str]:
    verdict = "bit-identical to the unbroken run" if not storm.wrong else f"DIFFERENT: {'; '.join(storm.wrong[:5])}"
    return [
        f"{sum(storm.struck.values())} faults in one job: {verdict}.",
        f"Goodput as printed: {100 * storm.booked:.1f} %; as the faults' times imply: {100 * storm.implied:.1f} %.",
        f"({storm.split})",
        f"Attempts that the watchdog ended though no fault had struck (it waits {_PATIENCE} s here): {storm.given_up}.",
        "\n| struck | times |\n| --- | ---: |",
        *(f"| {name} | {count} |" for name, count in sorted(storm.struck.items())),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="tries at the same time")
    parser.add_argument("--storm", type=int, default=0)
    parser.add_argument("--mean", type=float, default=3.0)
    parser.add_argument("--steps", type=int, help="of the storm's job; default: by the machine's speed now")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        if arguments.kind:
            endure(arguments.kind, arguments.seed, Bench(folder, KINDS[arguments.kind].layout), folder / "job", 2.0)
            print("survived")
            return
        failed, begun = False, f"`.venv/bin/python bench/soak.py {' '.join(sys.argv[1:])}`"
        if arguments.tries:
            table = soak(arguments.tries, arguments.kills or arguments.tries, arguments.jobs, folder)
            write("soak.md", "Faults at random instants", begun, report_soak(table))
            failed = any(tally.failed for tally in table.values())
        if arguments.storm:
            came = storm(arguments.storm, arguments.mean, folder / "storm", arguments.seed, arguments.steps)
            write("storm.md", "A storm of faults", begun, report_storm(came))
            failed |= bool(came.wrong) or sum(came.struck.values()) < arguments.storm
            failed |= abs(came.booked - came.implied) > 0.05
    sys.exit(failed)


def write(file: str, title: str, command: str, lines: list[str]) -> None:
    text = "\n".join([f"# {title}\n", f"{command}\n", *lines]) + "\n"
    print(text)
    (RESULTS / file).write_text(text)


if __name__ == "__main__":
    main()
