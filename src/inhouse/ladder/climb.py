"""Climbs a ladder: trains its rungs from the smallest up, foretells each from those before it, draws the verdict."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inhouse.common.files import lock_folder
from inhouse.common.lineage import digest_of, read_record
from inhouse.data.text_size import counted_tokens
from inhouse.ladder.efficiency_gain import Comparison, Losses, compare
from inhouse.ladder.fit import fit
from inhouse.ladder.job import Job, as_line, is_begun, make_text, measured, new_job, text_digest, train
from inhouse.ladder.ledger import Entry, append, find, read
from inhouse.ladder.plan import Arm, Plan
from inhouse.ladder.rungs import check_passes
from inhouse.ladder.student import quantile
from inhouse.ladder.verdict import Both, decide
from inhouse.pipeline.provenance import code_facts, host_facts
from inhouse.pipeline.runner import Stopped

MAX_EPOCHS = 4.0  # to there a repeated token is worth about a new one (Muennighoff et al., 2023)
_ASSUMED = 0.5  # irreducible, over the lowest loss, where two rungs are all that is known
_POLL_SECONDS = 0.2

Say = Callable[[str], None]
# by corpus and arm: of each rung, the smallest first, the job of each seed
_Jobs = dict[tuple[str, str], list[list[Job]]]


class _Ladder(NamedTuple):
    """A plan with its runs. `id` is another one where a run of it is another, by its code, or its text."""

    plan: Plan
    folder: Path
    jobs: _Jobs
    id: str
    say: Say


def climb(
    plan: Plan, folder: Path, side_by_side: int | None = None, max_epochs: float = MAX_EPOCHS, say: Say = print
) -> Entry:
    """Train what of the ladder is not trained yet, and return its entry in the ledger in `folder`.

    `side_by_side`: how many runs at a time; default: as many as there are cores, on a GPU one.
    Raises `ValueError` with a sentence, and `Stopped` on Ctrl-C: the same command goes on from there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("one process climbs a ladder and starts those of its runs; start it without torchrun")
    if not max_epochs > 0:
        raise ValueError(f"--max-epochs {max_epochs:g}: a number above 0")
    at_a_time = side_by_side or _cores_for(plan)
    threads = max(1, _cores() // at_a_time)
    with lock_folder(folder):
        jobs: _Jobs = {
            (corpus, arm.name): _jobs(folder, arm, plan.seeds, threads)
            for corpus, arms in plan.corpora.items()
            for arm in arms
        }
        for corpus, arms in plan.corpora.items():
            _make_texts(corpus, [jobs[corpus, arm.name][0][0] for arm in arms], say)
            for arm in arms:
                text = counted_tokens(jobs[corpus, arm.name][0][0].text / "tokenizer") or 0
                passes = check_passes(arm.rungs(1), text, max_epochs, corpus)
                say(f"{corpus}, {arm.name}: {text:,} tokens of text, {passes:.2f} epochs at the largest rung")
        _check_texts(plan, jobs)
        ladder = _Ladder(plan, folder, jobs, _id_of(plan, jobs), say)
        for number, depth in enumerate(plan.depths):
            _climb_rung(ladder, number, at_a_time)
            say(f"depth {depth}: " + "; ".join(_told(*key, rungs[number]) for key, rungs in jobs.items()))
        return _conclude(ladder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cores_for(plan: Plan) -> int:
    from inhouse.common.devices import pick_device

    recipes = [arm.recipe for arms in plan.corpora.values() for arm in arms]
    is_alone = any(each.parallel.processes > 1 or pick_device(each.pretrain.device).type == "cuda" for each in recipes)
    return 1 if is_alone else _cores()


def _jobs(folder: Path, arm: Arm, seeds: Sequence[int], threads: int) -> list[list[Job]]:
    by_seed = [[new_job(folder, rung, arm.experiments, threads) for rung in arm.rungs(seed)] for seed in seeds]
    return [list(rung) for rung in zip(*by_seed, strict=True)]


def _make_texts(corpus: str, jobs: list[Job], say: Say) -> None:
    for text in {job.text: job for job in jobs}.values():
        say(f"{corpus}: text and tokenizer in {text.text}")
        make_text(text)
    held_out = [_held_out(job.text) for job in jobs]
    if held_out[0] != held_out[1]:
        raise ValueError(
            f"{corpus}: what is tried changes which text is held out, so the two losses would be of different texts; "
            "try no key of [data] that does so"
        )


def _held_out(text: Path) -> dict[str, str]:
    outputs = (read_record(text / "data") or {}).get("outputs", {})
    return {name: digest for name, digest in outputs.items() if name.startswith("heldout")}


def _check_texts(plan: Plan, jobs: _Jobs) -> None:
    """Raises `ValueError` where two corpora are one text under two names: a gain on both would be one piece of news."""
    known: dict[str, str] = {}
    for corpus, arms in plan.corpora.items():
        held_out = digest_of(_held_out(jobs[corpus, arms[0].name][0][0].text))
        if held_out in known:
            raise ValueError(f"{corpus} and {known[held_out]} hold out the same text; --also wants another kind")
        known[held_out] = corpus


def _id_of(plan: Plan, jobs: _Jobs) -> str:
    runs = [[job.run.name, text_digest(job)] for rungs in jobs.values() for rung in rungs for job in rung]
    return digest_of([plan.id, runs]).removeprefix("sha256:")[:12]


def _climb_rung(ladder: _Ladder, number: int, at_a_time: int) -> None:
    jobs = ladder.jobs
    for key, rungs in jobs.items():
        if number >= 2 and not any(map(is_begun, rungs[number])):
            _foretell(ladder, key, number)
    # both arms of a seed one after the other: what changes on the machine meanwhile concerns both
    seeds = range(len(ladder.plan.seeds))
    unfinished = {job.run: job for seed in seeds for rungs in jobs.values() if not measured(job := rungs[number][seed])}
    carry_out(list(unfinished.values()), at_a_time, ladder.folder)
    for key in jobs:
        _keep_error(ladder, key, number)


def carry_out(jobs: list[Job], at_a_time: int, folder: Path) -> None:
    """Train all of the jobs, so many at a time in processes of their own; one at a time in this process."""
    if at_a_time == 1:
        for job in jobs:
            train(job)
        return
    waiting, running = jobs[::-1], dict[subprocess.Popen[str], Job]()
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                job = waiting.pop()
                running[_start(job)] = job
            time.sleep(_POLL_SECONDS)
            for process in [each for each in running if each.poll() is not None]:
                _check_end(running.pop(process), process.returncode)
    except KeyboardInterrupt:
        sentence = f"stopped; what was trained is kept in {folder}: the same command goes on from there"
        raise Stopped(sentence, 130) from None
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _check_end(job: Job, status: int) -> None:
    if status < 0:
        raise ValueError(
            f"{job.run} was killed by signal {-status}; where the machine's memory was full, fewer at a time: "
            "--side-by-side 1. The same command goes on from there"
        )
    if status:
        raise ValueError(f"{job.run} ended with exit status {status}, and said why")


def _start(job: Job) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "inhouse.ladder.job"],
        env=os.environ | {"OMP_NUM_THREADS": str(job.threads)},
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(as_line(job) + "\n")
    process.stdin.flush()
    return process


def _runs(jobs: list[Job]) -> list[dict[str, Any]]:
    found = [measured(job) for job in jobs]
    assert all(found)
    return [each for each in found if each]


def _told(corpus: str, arm: str, jobs: list[Job]) -> str:
    losses = [run["value"] for run in _runs(jobs)]
    spread = f" ± {np.std(losses, ddof=1) / math.sqrt(len(losses)):.4f}" if len(losses) > 1 else ""
    return f"{corpus} {arm} {np.mean(losses):.4f}{spread} bits per byte (n = {len(losses)})"


def _foretell(ladder: _Ladder, key: tuple[str, str], number: int) -> None:
    """Write down what the next rung's loss will be, by the law of the smaller ones."""
    where, rungs = _where(ladder, key, number), ladder.jobs[key]
    if find(read(ladder.folder), kind="prediction", **where):
        return
    told = f"depth {where['depth']}, {' '.join(key)}"
    runs = [(run["flops"], run["value"]) for jobs in rungs[:number] for run in _runs(jobs)]
    compute, losses = [list(x) for x in zip(*runs, strict=True)]
    irreducible = _ASSUMED * min(losses) if number == 2 else None
    try:
        law = fit(compute, losses, irreducible)
    except ValueError as error:
        ladder.say(f"{told}: not foretold ({error})")
        return
    degrees, at, seeds = len(losses) - (2 if number == 2 else 3), rungs[number][0].flops, len(rungs[number])
    loss, reach = law.loss(at), None
    if degrees:
        reach = math.sqrt(law.squares / degrees * (law.variance(at) + 1 / seeds)) * quantile(0.975, degrees)
    append(ladder.folder, {
        "kind": "prediction", **where, "flops": at, "times_the_last": at / max(compute), "loss": loss,
        "low": None if reach is None else loss - reach, "high": None if reach is None else loss + reach,
        "assumed_irreducible": irreducible, "written": _now(),
    })  # fmt: skip
    shown = "" if reach is None else f" ± {reach:.4f}"
    ladder.say(f"{told}: {loss:.4f}{shown} bits per byte foretold")


def _keep_error(ladder: _Ladder, key: tuple[str, str], number: int) -> None:
    where, entries = _where(ladder, key, number), read(ladder.folder)
    foretold = find(entries, kind="prediction", **where)
    if foretold is None or find(entries, kind="outcome", **where):
        return
    loss = float(np.mean([run["value"] for run in _runs(ladder.jobs[key][number])]))
    error = foretold["loss"] / loss - 1
    append(ladder.folder, {"kind": "outcome", **where, "loss": loss, "foretold": foretold["loss"], "error": error})


def _where(ladder: _Ladder, key: tuple[str, str], number: int) -> Entry:
    return {"ladder": ladder.id, "corpus": key[0], "arm": key[1], "depth": ladder.plan.depths[number]}


def _conclude(ladder: _Ladder) -> Entry:
    plan, jobs, entries = ladder.plan, ladder.jobs, read(ladder.folder)
    if known := find(entries, kind="ladder", ladder=ladder.id):
        return known
    corpora, found = {}, {}
    for corpus, arms in plan.corpora.items():
        runs = [[_runs(rung) for rung in jobs[corpus, arm.name]] for arm in arms]
        both = Both(*(compare(*(_losses(each, unit) for each in runs)) for unit in ("flops", "seconds")))
        found[corpus] = both
        corpora[corpus] = {
            "rungs": [
                {"depth": depth} | {arm.name: _summary(each[number]) for arm, each in zip(arms, runs, strict=True)}
                for number, depth in enumerate(plan.depths)
            ],
            "flops": _as_json(both.flops),
            "seconds": _as_json(both.seconds),
        }
    verdict, code, host = decide(found, len(plan.seeds)), code_facts(), host_facts()
    entry = {
        "kind": "ladder", "ladder": ladder.id, "date": _now(), "recipe": plan.name, "tried": list(plan.tried),
        "texts": {corpus: text_digest(jobs[corpus, arms[0].name][0][0]) for corpus, arms in plan.corpora.items()},
        "tokens_per_parameter": plan.per_parameter, "seeds": len(plan.seeds), "verdict": verdict.word,
        "reason": verdict.reason, "remarks": [*verdict.remarks, *_looks(plan, entries)], "corpora": corpora,
        "code": {key: code.get(key) for key in ("version", "commit", "modified")},
        "machine": ", ".join(host["gpus"]) or f"{host['cpu']}, {host['cores']} cores",
    }  # fmt: skip
    append(ladder.folder, entry)
    return entry


def _looks(plan: Plan, entries: list[Entry]) -> list[str]:
    """An interval of 95 % is that of one look: who looks until it suits finds something."""
    same = {"kind": "ladder", "recipe": plan.name, "tried": list(plan.tried)}
    before = sum(all(entry.get(key) == value for key, value in same.items()) for entry in entries)
    if not before:
        return []
    return [f"tried on {plan.name} by {before} ladders before this one; an interval of 95 % is that of a single look"]


def _losses(rungs: list[list[dict[str, Any]]], unit: str) -> Losses:
    return Losses(*(np.array([[run[key] for run in runs] for runs in rungs]) for key in (unit, "value")))


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    first = runs[0]
    each = {key: [run[key] for run in runs] for key in ("seconds", "value")}
    return {key: first[key] for key in ("parameters", "active", "tokens", "flops")} | {
        "seconds": each["seconds"], "losses": each["value"], "documents": first["count"],
    }  # fmt: skip


def _as_json(comparison: Comparison) -> dict[str, Any]:
    law = comparison.law
    return {
        "law": {"A": law.scale, "alpha": law.alpha, "E": law.irreducible, "unit": law.unit},
        "deviation": comparison.deviation,
        "gains": [list(gain) for gain in comparison.rungs],
        "overall": list(comparison.overall),
        "trend": list(comparison.trend),
        "ahead": [{"irreducible": irreducible, "gain": list(gain)} for irreducible, gain in comparison.ahead],
        "smallest": comparison.smallest,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
