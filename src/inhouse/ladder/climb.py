"""Climbs a ladder: trains its rungs from the smallest up, foretells each from those before it, draws the verdict."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from inhouse.common.files import lock_folder
from inhouse.common.lineage import read_record
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


def climb(
    plan: Plan, folder: Path, side_by_side: int | None = None, max_epochs: float = MAX_EPOCHS, say: Say = print
) -> Entry:
    """Train what of the ladder is not trained yet, and return its entry in the ledger in `folder`.

    `side_by_side`: how many runs at a time; default: as many as there are cores, on a GPU one.
    Raises `ValueError` with a sentence, and `Stopped` on Ctrl-C: the same command goes on from there.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("one process climbs a ladder and starts those of its runs; start it without torchrun")
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
        for number, depth in enumerate(plan.depths):
            _climb_rung(plan, folder, jobs, number, at_a_time, say)
            say(f"depth {depth}: " + "; ".join(_told(*key, rungs[number]) for key, rungs in jobs.items()))
        return _conclude(plan, folder, jobs)


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


def _climb_rung(plan: Plan, folder: Path, jobs: _Jobs, number: int, at_a_time: int, say: Say) -> None:
    for (corpus, arm), rungs in jobs.items():
        if number >= 2 and not any(map(is_begun, rungs[number])):
            _foretell(plan, folder, corpus, arm, rungs, number, say)
    # both arms of a seed one after the other: what changes on the machine meanwhile concerns both
    seeds = range(len(plan.seeds))
    unfinished = {job.run: job for seed in seeds for rungs in jobs.values() if not measured(job := rungs[number][seed])}
    carry_out(list(unfinished.values()), at_a_time, folder)
    for (corpus, arm), rungs in jobs.items():
        _keep_error(plan, folder, corpus, arm, rungs[number], plan.depths[number])


def carry_out(jobs: list[Job], at_a_time: int, folder: Path) -> None:
    """Train all of the jobs, so many at a time in processes of their own; one at a time in this process."""
    if at_a_time == 1:
        for job in jobs:
            train(job)
        return
    waiting, running = jobs[::-1], list[subprocess.Popen[str]]()
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                running.append(_start(waiting.pop()))
            time.sleep(_POLL_SECONDS)
            for process in [each for each in running if each.poll() is not None]:
                running.remove(process)
                if process.returncode:
                    raise ValueError(f"a run of the ladder ended with exit status {process.returncode}, and said why")
    except KeyboardInterrupt:
        sentence = f"stopped; what was trained is kept in {folder}: the same command goes on from there"
        raise Stopped(sentence, 130) from None
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


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


def _foretell(plan: Plan, folder: Path, corpus: str, arm: str, rungs: list[list[Job]], number: int, say: Say) -> None:
    """Write down what the next rung's loss will be, by the law of the smaller ones."""
    where = _where(plan, corpus, arm, plan.depths[number])
    if find(read(folder), kind="prediction", **where):
        return
    runs = [(run["flops"], run["value"]) for jobs in rungs[:number] for run in _runs(jobs)]
    compute, losses = [list(x) for x in zip(*runs, strict=True)]
    irreducible = _ASSUMED * min(losses) if number == 2 else None
    try:
        law = fit(compute, losses, irreducible)
    except ValueError as error:
        say(f"depth {plan.depths[number]}, {corpus} {arm}: not foretold ({error})")
        return
    degrees, at, seeds = len(losses) - (2 if number == 2 else 3), rungs[number][0].flops, len(rungs[number])
    loss, reach = law.loss(at), None
    if degrees:
        reach = math.sqrt(law.squares / degrees * (law.variance(at) + 1 / seeds)) * quantile(0.975, degrees)
    append(folder, {
        "kind": "prediction", **where, "flops": at, "times_the_last": at / max(compute), "loss": loss,
        "low": None if reach is None else loss - reach, "high": None if reach is None else loss + reach,
        "assumed_irreducible": irreducible, "written": _now(),
    })  # fmt: skip
    shown = "" if reach is None else f" ± {reach:.4f}"
    say(f"depth {plan.depths[number]}, {corpus} {arm}: {loss:.4f}{shown} bits per byte foretold")


def _keep_error(plan: Plan, folder: Path, corpus: str, arm: str, jobs: list[Job], depth: int) -> None:
    where, entries = _where(plan, corpus, arm, depth), read(folder)
    foretold = find(entries, kind="prediction", **where)
    if foretold is None or find(entries, kind="outcome", **where):
        return
    loss = float(np.mean([run["value"] for run in _runs(jobs)]))
    error = foretold["loss"] / loss - 1
    append(folder, {"kind": "outcome", **where, "loss": loss, "foretold": foretold["loss"], "error": error})


def _where(plan: Plan, corpus: str, arm: str, depth: int) -> Entry:
    return {"ladder": plan.id, "corpus": corpus, "arm": arm, "depth": depth}


def _conclude(plan: Plan, folder: Path, jobs: _Jobs) -> Entry:
    texts = {corpus: text_digest(jobs[corpus, arms[0].name][0][0]) for corpus, arms in plan.corpora.items()}
    known = find(read(folder), kind="ladder", ladder=plan.id, texts=texts)
    if known:
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
        "kind": "ladder", "ladder": plan.id, "date": _now(), "recipe": plan.name, "tried": list(plan.tried),
        "texts": texts,
        "tokens_per_parameter": plan.per_parameter, "seeds": len(plan.seeds), "verdict": verdict.word,
        "reason": verdict.reason, "remarks": verdict.remarks, "corpora": corpora,
        "code": {key: code.get(key) for key in ("version", "commit", "modified")},
        "machine": ", ".join(host["gpus"]) or f"{host['cpu']}, {host['cores']} cores",
    }  # fmt: skip
    append(folder, entry)
    return entry


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
