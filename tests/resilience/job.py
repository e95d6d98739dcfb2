"""A tiny job of several processes, run by the real pipeline and launcher, that can be broken, restarted and compared.

The launcher and its ranks are forked off one server that has imported everything: an attempt takes a second or two.
"""

import hashlib
import json
import math
import multiprocessing.process
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from tests.processes import CONTEXT

from inhouse.checkpoint.manifest import find_damage
from inhouse.common import processes
from inhouse.common.files import digest
from inhouse.pipeline import launch
from inhouse.pipeline.runner import run_stages
from inhouse.pipeline.stages import partial_folder, stages_of
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import Recipe, load_recipe
from inhouse.train import loop
from inhouse.train.step import Batch

STEPS, CHECKPOINT_EVERY = 12, 3
PATIENCE, LITTLE_PATIENCE = 60, 3  # seconds of silence: on a busy machine a rank may not be run for a while
LAYOUTS = {"experts": ("shard=2", "experts=2"), "replicas": ("replicate=2",)}
_TINY = [
    "tokenizer.vocab_size=300", "tokenizer.tokens_per_shard=8192", "data.processes=1", "tokenizer.processes=1",
    "model.size=tiny", "model.hidden_size=32", "model.num_experts=4", "model.context=32", "pretrain.batch_tokens=128",
    "pretrain.sequence_length=16", "pretrain.compile=false", "pretrain.precision=fp32", "pretrain.warmup_steps=2",
    "pretrain.sequence_warmup=[]", "sft.sequence_length=32", "sft.batch_tokens=256",
    "pretrain.log_every=1", "pretrain.spike_window=3",
    "pretrain.spike_deviations=1", "pretrain.device=cpu", f"parallel.timeout_seconds={PATIENCE}",
]  # fmt: skip
_LONGEST = 300.0  # seconds of an attempt: beyond, it hangs
_COMPARED = ("loss", "gradient_norm", "lr", "expert_load_max", "expert_load_min", "router_entropy")


Install = Callable[[int, int], None]  # what breaks a rank: called with its number and the world size; picklable


def nothing(rank: int, world: int) -> None:
    """No fault."""


class Job(NamedTuple):
    """A recipe in a folder of its own, with its text already in shards."""

    folder: Path
    recipe: Recipe

    @property
    def run(self) -> Path:
        return self.folder / "runs" / self.recipe.name

    @property
    def output(self) -> Path:
        """Where the stage stands: finished, or not yet."""
        done = self.run / "pretrain"
        return done if done.exists() else partial_folder(self.run, "pretrain")

    @property
    def world(self) -> int:
        return self.recipe.parallel.processes

    def impatient(self) -> "Job":
        """The same job, which gives up a silent rank early."""
        parallel = self.recipe.parallel.model_copy(update={"timeout_seconds": LITTLE_PATIENCE})
        return self._replace(recipe=self.recipe.model_copy(update={"parallel": parallel}))

    def copy(self, folder: Path) -> "Job":
        """The same job, as it stands now, elsewhere."""
        shutil.copytree(self.folder, folder)
        return self._replace(folder=folder)

    def newest_whole(self) -> int:
        """The step of the newest checkpoint without damage; 0 where there is none."""
        folders = (self.output / "checkpoints").glob("step-*")
        return max((int(f.name[5:]) for f in folders if find_damage(f) is None), default=0)


class Attempt(NamedTuple):
    """What came of one start of a job."""

    status: int | None  # of the launcher
    said: str  # all that its processes wrote


class Result(NamedTuple):
    """All that must be alike in two runs, bit for bit."""

    weights: str
    steps: dict[int, dict[str, Any]]  # what was logged
    tokens: dict[tuple[int, int], str]  # digest of the ids that a rank trained a step on, by (rank, step)


def prepare(folder: Path, layout: str, *overrides: str, steps: int = STEPS) -> Job:
    """A job whose data and tokenizer stages are done."""
    text = folder / "text"
    text.mkdir(parents=True)
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("[a-c]*.py"))[:8]:
        (text / path.name).write_text(path.read_text(encoding="utf-8")[:9_000], encoding="utf-8")
    sets = [*_TINY, *(f"parallel.{each}" for each in LAYOUTS[layout]), f"data.sources.0.path={text}"]
    sets += [f"pretrain.tokens={128 * steps}", f"pretrain.checkpoint_every={CHECKPOINT_EVERY}", *overrides]
    job = Job(folder, load_recipe(find_recipe("preview-moe"), sets))
    run_stages(stages_of(job.recipe, job.run)[:2], job.run, say=lambda line: None)
    return job


class Started:
    """An attempt under way. `install(rank, world)` runs in every rank's process before it trains."""

    def __init__(self, job: Job, install: Install = nothing) -> None:
        self.job = job
        self.number = len(list(job.folder.glob("attempt-*")))
        self.folder = job.folder / f"attempt-{self.number:04d}"
        self.folder.mkdir()
        self.launcher = CONTEXT.Process(target=_launch, args=(job, self.folder, install))
        self.launcher.start()
        # else every later start looks after it, and takes its status from the thread that waits for it
        multiprocessing.process._children.discard(self.launcher)  # type: ignore[attr-defined]

    def rank_processes(self) -> list[int]:
        """The process ids of the ranks that have started, by rank."""
        return [int(path.read_text() or 0) for path in sorted(self.folder.glob("rank-*.pid"))]

    def wait(self, longest: float = _LONGEST) -> Attempt:
        """Its end. Raises `AssertionError` where it, or a process that it started, does not end."""
        self.launcher.join(longest)
        is_ended = self.launcher.exitcode is not None
        deadline = time.monotonic() + 60
        while left := [pid for pid in self.rank_processes() if is_alive(pid)]:
            if time.monotonic() > deadline or not is_ended:
                break
            time.sleep(0.02)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.launcher.kill()
        self.launcher.join()
        said = (self.folder / "said").read_text()
        assert is_ended, f"the launcher did not end within {longest:g} s:\n{said}"
        assert not left, f"{len(left)} processes outlived the launcher:\n{said}"
        return Attempt(self.launcher.exitcode, said)


def attempt(job: Job, install: Install = nothing, longest: float = _LONGEST) -> Attempt:
    """Start the job once, and wait for its end, `longest` seconds at most."""
    return Started(job, install).wait(longest)


def result(job: Job) -> Result:
    """Of a job that is done."""
    lines = [json.loads(line) for line in (job.output / "metrics.jsonl").read_text().splitlines()]
    steps = {line["step"]: {name: line.get(name) for name in _COMPARED} for line in lines}
    assert len(steps) == len(lines), "a step stands twice in metrics.jsonl"
    tokens: dict[tuple[int, int], str] = {}
    for path in sorted(job.folder.glob("attempt-*/tokens-*.txt")):
        for line in path.read_text().splitlines():
            step, name, _ = line.split()
            tokens[int(path.stem.partition("-")[2]), int(step)] = name
    return Result(digest(job.run / "pretrain" / "model.safetensors"), steps, tokens)


def differences(expected: Result, found: Result, without: frozenset[int] = frozenset()) -> list[str]:
    """What is not alike; `without` the log of these steps."""
    wrong = [] if expected.weights == found.weights else ["the final weights"]
    for name, a, b in (("log", expected.steps, found.steps), ("tokens", expected.tokens, found.tokens)):
        keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))  # type: ignore[type-var]
        wrong += [f"the {name} of step {key}: {a.get(key)}, {b.get(key)}" for key in keys if key not in without]
    return wrong


def is_alive(process: int) -> bool:
    """Neither gone nor a zombie that nobody waits for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _launch(job: Job, folder: Path, install: Install) -> None:
    """The launcher: `inhouse make --until pretrain`, in a process of its own."""
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(said, stream)
    torch.set_num_threads(1)
    forked = partial(_Forked, folder=folder, install=install)
    processes.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    launch._RESTARTS = 0  # whoever started this attempt looks at what it left, and starts the next
    status = 0
    try:
        run_stages(stages_of(job.recipe, job.run)[:3], job.run, say=lambda line: None)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        status = getattr(error, "exit_status", 1)
    os._exit(status)


class _Forked:
    """What the launcher needs of a `subprocess.Popen`, by a fork of what has imported everything."""

    def __init__(self, command: list[str], env: dict[str, str], folder: Path, install: Install, **_: Any) -> None:
        read, write = os.pipe()
        self._status: int | None = None
        self._process = os.fork()
        if self._process == 0:
            try:
                _be_rank(command[2:], env, read, folder, install)
            finally:
                os._exit(1)
        os.close(read)
        self.stdin = os.fdopen(write, "w")

    def poll(self) -> int | None:
        if self._status is None:
            process, status = os.waitpid(self._process, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if process else None
        return self._status

    def wait(self, timeout: float = math.inf) -> int:
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("rank", timeout)
            time.sleep(0.01)
        return status

    def terminate(self) -> None:
        os.kill(self._process, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self._process, signal.SIGKILL)


def _be_rank(arguments: list[str], env: dict[str, str], line: int, folder: Path, install: Install) -> None:
    """As `python -m inhouse.pipeline.launch` is one: `line` is the standard input."""
    os.setsid()
    os.dup2(line, 0)
    os.closerange(3, 4096)  # the other ranks' pipes too: they must end with the launcher
    sys.stdin, sys.argv = os.fdopen(0, closefd=False), arguments
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(env)
    rank, world = int(env["RANK"]), int(env["WORLD_SIZE"])
    (folder / f"rank-{rank}.pid").write_text(str(os.getpid()))
    _note_tokens(folder / f"tokens-{rank}.txt")
    install(rank, world)
    launch.main()


def _note_tokens(file: Path) -> None:
    """Of every step that begins: its number, a digest of this rank's ids, and the time."""
    read = loop.Trainer._batch

    def noting(run: loop.Trainer, number: int) -> Batch:
        batch = read(run, number)
        ids = b"".join(part.numpy().tobytes() for part in (batch.tokens_BT, batch.targets_BT))
        with file.open("a") as lines:
            lines.write(f"{run.done + 1} {hashlib.sha256(ids).hexdigest()[:16]} {time.monotonic():.6f}\n")
        return batch

    loop.Trainer._batch = noting  # type: ignore[method-assign]
