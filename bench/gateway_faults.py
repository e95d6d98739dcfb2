"""Sixteen classes of fault against the whole gateway, over HTTP: writes results/gateway_faults.md.

.venv/bin/python bench/gateway_faults.py [--seeds 50] [--real] [--write]

Every class is a world of its own: three providers on loopback that speak one dialect each, fail as the class says, and
have a text of their own each (`tests/gateway/fault_classes.py`). One gateway stands before all of them, each is asked
with a stream and without in `hold`, with a stream in `resume`. Every seed draws other texts, dialects, places where a
stream breaks and where its bytes are cut. The clock stands while anybody has something to do and jumps to the next
timer where nobody has, so that a minute of silence costs nothing and a busy machine changes no time; `--real` goes
through all classes once on the wall clock, one by one but for S15, which takes two minutes.
"""

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gateway.fault_classes import (
    CLASSES,
    NO_FAULT,
    Ask,
    FaultClass,
    Outcome,
    World,
    asked_all,
    world_of,
    wrong_in_resume,
)
from tests.gateway.fault_gateway import gateway_before
from tests.gateway.jumping_clock import run

RESULTS = Path(__file__).parent / "results"


@dataclass
class Tally:
    """Of one class."""

    passed: int = 0
    tried: int = 0
    seconds: list[float] = field(default_factory=list)
    whole: int = 0
    errors: int = 0
    wrong: list[str] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    def add_hold(self, found: str | None, outcomes: Iterable[Outcome]) -> None:
        self.tried += 1
        self.passed += found is None
        self.why += [found] if found else []
        self.seconds += [outcome.seconds for outcome in outcomes]

    def add_resume(self, wrong: list[str], outcomes: Iterable[Outcome]) -> None:
        self.wrong += wrong
        for outcome in outcomes:
            self.whole += outcome.error is None
            self.errors += outcome.error is not None

    def row(self, fault: FaultClass) -> str:
        return (
            f"| {fault.name} | {fault.what} | {self.passed:,} of {self.tried:,} | "
            f"{statistics.median(self.seconds):.1f} | {max(self.seconds):.1f} | "
            f"{self.whole:,} | {self.errors:,} | {len(self.wrong):,} |"
        )


async def outcomes_of(
    faults: Sequence[FaultClass], recovery: str, is_stream: bool, seed: int, at_once: int = len(CLASSES)
) -> list[tuple[FaultClass, World, list[Outcome]]]:
    """All these classes before a gateway of their own, `at_once` of those of one request at a time."""
    turn = asyncio.Semaphore(at_once)

    async def told(fault: FaultClass, ask: Ask) -> list[Outcome]:
        async with turn if fault.num_requests == 1 else nullcontext():
            return await asked_all(fault, ask, is_stream)

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            worlds = {fault.name: await stack.enter_async_context(world_of(fault, seed)) for fault in faults}
            asks = await stack.enter_async_context(gateway_before(worlds, recovery, Path(folder)))
            found = await asyncio.gather(*(told(fault, asks[fault.name]) for fault in faults))
        return list(zip(faults, worlds.values(), found, strict=True))


async def tally(tallies: dict[str, Tally], seed: int, at_once: int) -> None:
    for is_stream in (True, False):
        for fault, world, outcomes in await outcomes_of(CLASSES, "hold", is_stream, seed, at_once):
            tallies[fault.name].add_hold(fault.check(world, outcomes), outcomes)
    for fault, world, outcomes in await outcomes_of(CLASSES, "resume", True, seed, at_once):
        wrong = [found for each in outcomes if (found := wrong_in_resume(world, each))]
        tallies[fault.name].add_resume(wrong, outcomes)


async def first_texts(recovery: str, seeds: range) -> tuple[float, float]:
    """Seconds to the first text and to the end where nothing fails, medians."""
    found = [(await outcomes_of([NO_FAULT], recovery, True, seed))[0][2][0] for seed in seeds]
    firsts = [outcome.first_text for outcome in found if outcome.first_text is not None]
    return statistics.median(firsts), statistics.median(outcome.seconds for outcome in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--real", action="store_true", help="one pass in real time")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    start = time.monotonic()
    tallies = {fault.name: Tally() for fault in CLASSES}
    on_a_clock = asyncio.run if arguments.real else run
    for seed in range(1 if arguments.real else arguments.seeds):
        on_a_clock(tally(tallies, seed, 1 if arguments.real else len(CLASSES)))
    latency = {recovery: on_a_clock(first_texts(recovery, range(3))) for recovery in ("off", "resume", "hold")}
    lines = report(tallies, latency, arguments, time.monotonic() - start)
    print("\n".join(lines))
    for name, found in tallies.items():
        for why in [*found.why, *found.wrong][:5]:
            print(f"{name}: {why}")
    if arguments.write:
        name = "gateway_faults-real.md" if arguments.real else "gateway_faults.md"
        (RESULTS / name).write_text("\n".join(lines) + "\n")


def report(
    tallies: dict[str, Tally], latency: dict[str, tuple[float, float]], arguments: argparse.Namespace, seconds: float
) -> list[str]:
    passed = sum(each.passed == each.tried for each in tallies.values())
    wrong = sum(len(each.wrong) for each in tallies.values())
    clock = "one pass on the wall clock" if arguments.real else f"{arguments.seeds} seeds on a clock that jumps"
    off, resume, hold = latency["off"], latency["resume"], latency["hold"]
    return [
        "# Faults of providers",
        "",
        f"`{' '.join(['.venv/bin/python bench/gateway_faults.py', *sys.argv[1:]])}`, {platform.machine()}, "
        f"{os.cpu_count()} cores, default settings, {clock}, {seconds:.0f} s.",
        "",
        f"In `hold` **{passed} of {len(tallies)}** classes pass every time, with and without a stream. In `resume` "
        f"**{wrong}** answers had anything wrong in them; what could not be mended ended with an error behind the "
        "beginning of a true answer.",
        "",
        "| class | what happens | hold: passed | seconds, median | most | resume: whole | with an error | wrong |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(tallies[fault.name].row(fault) for fault in CLASSES),
        "",
        "An error is right for S12 where no model has a longer context, and for S13 where the filter answers with one.",
        "",
        "Where nothing fails (60 tokens in 1.3 s), median seconds to the first text and to the end:",
        "",
        "| stream_recovery | first text | end |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {latency[name][0]:.2f} | {latency[name][1]:.2f} |" for name in latency),
        "",
        f"So `hold` adds {hold[0] - off[0]:.2f} s before the first text and {abs(hold[1] - off[1]):.2f} s at the end; "
        f"`resume` {abs(resume[0] - off[0]):.2f} s and {abs(resume[1] - off[1]):.2f} s.",
    ]


if __name__ == "__main__":
    main()
