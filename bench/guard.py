"""Fine-tunings drawn at random, without the spike guard and with it: it must end those that do not learn, no others.

.venv/bin/python bench/guard.py --runs 300 --seed 0                     all, and bench/results/guard.md
.venv/bin/python bench/guard.py --runs 300 --first 100 --count 50       some of them; results gather in a JSONL file

A run is judged by its loss on 48 batches that it never trains on, drawn from the same mixture as its own, before the
first step and after the last, with the guard off. They are drawn at random from all that lies far behind the run: 48 in
a row would hold six draws of a kind where kinds come eight steps at a time.
"""

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from inhouse.checkpoint.model_folder import fill_from, save_model
from inhouse.model.sizes import ModelSettings
from inhouse.model.transformer import Transformer
from inhouse.resilience.step_guard import StepFlags, StepGuard, Verdict
from inhouse.train import loop
from inhouse.train.callbacks import default_callbacks
from inhouse.train.loop import Trainer
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch

RESULTS = Path(__file__).parent / "results"
VOCABULARY, LENGTH, NUM_EVALUATED = 64, 16, 48
KINDS = ("constant", "counting", "chain", "skewed", "random")
ARCHITECTURES: list[Literal["qwen3", "glm4_moe"]] = [*["qwen3"] * 5, "glm4_moe"]
STANDARD_ERRORS, LEAST_RISE = 3.0, 0.01


class Draw(NamedTuple):
    """One fine-tuning."""

    number: int
    architecture: Literal["qwen3", "glm4_moe"]
    depth: int
    is_pretrained: bool
    lr_factor: float
    precision: Literal["bf16", "fp32"]
    num_steps: int
    rows: int
    kinds: tuple[str, ...]
    shares: tuple[float, ...]
    mixing: str  # of kinds: "row", "step" (at random), "period" (every n-th step), or "burst" (several steps in a row)
    poison: tuple[int, ...]  # batches
    short_until: int  # the step up to which sequences are half as long
    checkpoint_every: int
    window: int


def draw(number: int, seed: int) -> Draw:
    """The `number`-th fine-tuning of a seed."""
    chance = Random(f"{seed}/{number}")
    num_steps = round(60 * 5 ** chance.random())
    kinds = tuple(chance.sample(KINDS, chance.randint(1, 3)))
    weights = [chance.random() ** 2 + 0.02 for _ in kinds]
    return Draw(
        number,
        chance.choice(ARCHITECTURES),
        depth=chance.choice((1, 2)),
        is_pretrained=chance.random() < 0.6,
        lr_factor=10 ** chance.uniform(-2, 3),
        precision="fp32" if chance.random() < 0.5 else "bf16",
        num_steps=num_steps,
        rows=chance.choice((2, 4, 8, 16)),
        kinds=kinds,
        shares=tuple(weight / sum(weights) for weight in weights),
        mixing=chance.choice(("row", "step", "period", "burst")),
        poison=tuple(chance.sample(range(num_steps), chance.randint(1, 6))) if chance.random() < 0.3 else (),
        short_until=int(num_steps * chance.uniform(0.1, 0.6)) if chance.random() < 0.25 else 0,
        checkpoint_every=chance.randint(10, 60),
        window=chance.choice((16, 32, 64)),
    )


def batch_of(run: Draw, step: int) -> Batch:
    """A pure function of the step; poisoned ones ask for what no text has."""
    generator = torch.Generator().manual_seed(run.number * 1_000_003 + step)
    rows, length = (2 * run.rows, LENGTH // 2) if step < run.short_until else (run.rows, LENGTH)
    if step in run.poison:
        tokens = torch.randint(0, VOCABULARY, (rows, length), generator=generator)
        return Batch(tokens, (7 * tokens + 13) % VOCABULARY)
    kinds = torch.tensor(run.shares).multinomial(rows, replacement=True, generator=generator)
    if run.mixing != "row":
        kinds = torch.full((rows,), _kind_of(run, step))
    texts = [_text(run.kinds[kind], length + 1, generator) for kind in kinds.tolist()]
    tokens = torch.stack(texts)
    return Batch(tokens[:, :-1], tokens[:, 1:])


def _kind_of(run: Draw, step: int) -> int:
    if run.mixing == "period":  # kinds but the first come at every n-th step
        period = max(2, round(1 / max(1e-9, 1 - run.shares[0])))
        return 0 if step % period else (step // period) % len(run.kinds)
    unit = step // 8 if run.mixing == "burst" else step
    return Random(f"{run.number}/{unit}").choices(range(len(run.kinds)), run.shares)[0]


def _text(kind: str, length: int, generator: torch.Generator) -> torch.Tensor:
    start = int(torch.randint(0, VOCABULARY, (1,), generator=generator))
    if kind == "constant":
        return torch.full((length,), start)
    if kind == "counting":
        return (start + torch.arange(length)) % VOCABULARY
    if kind == "random":
        return torch.randint(0, VOCABULARY, (length,), generator=generator)
    if kind == "skewed":
        return (torch.rand(length, generator=generator) ** 4 * VOCABULARY).long()
    steps = torch.randint(0, 3, (length,), generator=generator)  # a chain: one of three tokens follows
    return (start + 5 * steps.cumsum(0)) % VOCABULARY


def model_of(run: Draw) -> Transformer:
    """Of width 32; trained on all kinds for a while where the run is said to start from such a one."""
    model = Transformer(_config(run.architecture, run.depth))
    model.initialize(run.number)
    if run.is_pretrained:
        fill_from(model, _base(run.architecture, run.depth))
    return model


@cache
def _base(architecture: Literal["qwen3", "glm4_moe"], depth: int) -> Path:
    run = Draw(10**6, architecture, depth, False, 1.0, "fp32", 200, 16, KINDS, (0.2,) * 5, "row", (), 0, 200, 64)
    folder = Path(tempfile.mkdtemp(dir=_place()))
    trainer = trainer_of(run, folder / "run")
    trainer.run()
    save_model(trainer.model, folder)
    return folder


@cache
def _place() -> str:
    return tempfile.mkdtemp(prefix="guard-")


@cache
def _config(architecture: Literal["qwen3", "glm4_moe"], depth: int) -> Any:
    settings = ModelSettings(
        architecture=architecture, size="tiny", depth=depth, hidden_size=32, num_heads=2, context=LENGTH,
        num_dense_layers=None if architecture == "qwen3" else 0,
    )  # fmt: skip
    return settings.resolve(VOCABULARY)[0]


def trainer_of(run: Draw, folder: Path) -> Trainer:
    """As stages have it, but for `torch.compile`."""
    settings = TrainSettings(
        batch_tokens=run.rows * LENGTH, lr_factor=run.lr_factor, precision=run.precision, compile=False, device="cpu",
        checkpoint_every=run.checkpoint_every, spike_window=run.window, log_every=50,
    )  # fmt: skip
    return Trainer(
        model_of(run), lambda step: batch_of(run, step), run.num_steps, settings, folder, name="guard",
        run_identity={"seed": run.number}, callbacks=default_callbacks(),
    )  # fmt: skip


class NoGuard(StepGuard):
    """Every step reaches the weights."""

    def judge(self, step: int, loss: float, flags: StepFlags, place: int = 0) -> Verdict:
        return Verdict.APPLY


def carry_out(run: Draw, guarded: bool) -> dict[str, Any]:
    """One run, and its losses before and after on what it does not train on."""
    with tempfile.TemporaryDirectory(dir=_place()) as folder, contextlib.redirect_stderr(io.StringIO()) as said:
        trainer = trainer_of(run, Path(folder))
        before, ended = evaluate(trainer, run), ""
        check = loop.check_learned
        if not guarded:
            trainer.guard, loop.check_learned = NoGuard(trainer.settings), lambda *losses: None
        try:
            trainer.run()
        except ValueError as error:
            ended = str(error)
        finally:
            loop.check_learned = check
        after = evaluate(trainer, run)
    lines = said.getvalue()
    return {
        "start": statistics.fmean(before),
        "end": _finite(statistics.fmean(after)),
        "noise": _finite(statistics.stdev(b - a for a, b in zip(before, after, strict=True))),
        "ended": ended,
        "rewinds": lines.count("is a spike: back to"),
        "went_on": lines.count("is a spike like"),
    }


def evaluate(trainer: Trainer, run: Draw) -> list[float]:
    """Nats a token on batches behind all that is trained on, whole sequences, none poisoned."""
    steps = Random(f"{run.number}/evaluated").sample(range(10_000, 20_000), NUM_EVALUATED)
    batches = [batch_of(run, step) for step in steps]
    return [nats / count for nats, count in (trainer.step.evaluate([batch]) for batch in batches)]


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def came_to(result: dict[str, Any]) -> str:
    """How a run ended: not a number, below its start, above it, or above it by no more than noise.

    Noise is three standard errors of the mean of the differences, or a hundredth of the loss.
    """
    if result["end"] is None or result["noise"] is None:
        return "not finite"
    rise = result["end"] - result["start"]
    margin = max(STANDARD_ERRORS * result["noise"] / math.sqrt(NUM_EVALUATED), LEAST_RISE * result["start"])
    return "below" if rise < 0 else "within noise" if rise <= margin else "above"


def violation(off: dict[str, Any], on: dict[str, Any]) -> str:
    """What the guard did wrong, if anything."""
    without, ended = came_to(off), bool(on["ended"])
    if without == "below" and ended:
        return "ended, though it learns"
    if without in ("not finite", "above") and not ended and came_to(on) in ("not finite", "above"):
        return "not ended, though it does not learn"
    return ""


def report(results: dict[int, dict[str, Any]], command: str, commit: str) -> str:
    """Counts by outcome, and every violation."""
    kinds = Counter((came_to(r["off"]), "ended" if r["on"]["ended"] else f"goes on, {came_to(r['on'])}")
                    for r in results.values())  # fmt: skip
    rewinds = [r["on"]["rewinds"] for r in results.values()]
    wrong = {n: v for n, r in sorted(results.items()) if (v := violation(r["off"], r["on"]))}
    lines = [
        "# The spike guard",
        "",
        f"`{command}`, commit {commit}",
        "",
        (__doc__ or "").split("\n\n")[-1].strip(),
        "",
    ]
    lines += ["| guard off: loss at the end | guard on | runs |", "| --- | --- | ---: |"]
    lines += [f"| {off} | {on} | {count} |" for (off, on), count in sorted(kinds.items())]
    lines += [
        "",
        f"{len(results)} runs, {sum(map(bool, rewinds))} with rewinds, {sum(rewinds)} rewinds, most "
        f"{max(rewinds)} in one; in {sum(r['on']['went_on'] > 0 for r in results.values())} it went on after spikes.",
        "",
    ]
    lines += [f"Violations: {len(wrong)}."]
    for number, what in wrong.items():
        off, on, drawn = (results[number][key] for key in ("off", "on", "draw"))
        lines += ["", f"- run {number}: {what}. Off {off}, on {on}, {drawn}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--results", type=Path, default=Path(tempfile.gettempdir()) / "guard.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = _known(arguments.results, arguments.seed)
    last = arguments.runs if arguments.count is None else min(arguments.runs, arguments.first + arguments.count)
    for number in range(arguments.first, last):
        if number in known:
            continue
        run = draw(number, arguments.seed)
        result = {
            "seed": arguments.seed,
            "draw": run._asdict(),
            "off": carry_out(run, False),
            "on": carry_out(run, True),
        }
        with arguments.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        off, on = result["off"], result["on"]
        print(number, came_to(off), off["start"], off["end"], "|", came_to(on), on["end"], on["rewinds"],
              on["ended"][:60], violation(off, on), flush=True)  # fmt: skip
    known = _known(arguments.results, arguments.seed)
    if len(known) == arguments.runs:
        git = ["git", "-C", str(RESULTS), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
        command = f".venv/bin/python bench/guard.py --runs {arguments.runs} --seed {arguments.seed}"
        text = report(known, command, commit)
        (RESULTS / "guard.md").write_text(text)
        print(text)
        sys.exit("Violations: 0." not in text)


def _known(path: Path, seed: int) -> dict[int, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return {r["draw"]["number"]: r for r in map(json.loads, lines) if r["seed"] == seed}


if __name__ == "__main__":
    main()
