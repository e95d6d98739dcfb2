"""How faults strike: functions that arm one in a rank's process, or damage what a stopped job has on the disk."""

import math
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from tests.resilience.job import CHECKPOINT_EVERY, Attempt, Install, Job, Started
from tests.resilience.strike import Strike

from inhouse.checkpoint import manifest
from inhouse.common import processes
from inhouse.common.dtensor import to_local
from inhouse.common.files import write_atomic
from inhouse.data.data_order import BatchRange
from inhouse.data.shards import Shards
from inhouse.model.transformer import Transformer
from inhouse.optim.optimizer import Optimizers
from inhouse.parallel import control_plane, process_group
from inhouse.pipeline import launch
from inhouse.resilience.goodput import read_times
from inhouse.resilience.step_guard import StepGuard
from inhouse.train import loop
from inhouse.train import step as train_step
from inhouse.train.step import Batch


def kill_in(owner: Any, name: str) -> Callable[[Strike], None]:
    def install(strike: Strike) -> None:
        if strike.is_victim:
            strike.before(owner, name, strike.kill_soon)

    return install


def kill_any_time(strike: Strike) -> None:
    """From the first line of a rank's process on."""

    def kill() -> None:
        time.sleep(strike.spec.seconds)
        strike.note()
        os.kill(os.getpid(), signal.SIGKILL)

    if strike.is_victim:
        threading.Thread(target=kill, daemon=True).start()


def kill_all(strike: Strike) -> None:
    strike.before(Transformer, "forward", strike.kill_soon)


def kill_all_after_a_save(strike: Strike) -> None:
    """Asynchronous saves end when they end: on a busy machine many steps later."""

    def act(run: loop.Trainer, number: int) -> None:
        run.checkpointer.wait()
        strike.kill_soon()

    strike.before(loop.Trainer, "_batch", act)


def signal_launcher(number: int, owner: Any, name: str, times: int = 1) -> Callable[[Strike], None]:
    def act(*arguments: Any, **options: Any) -> None:
        for _ in range(times):
            os.kill(os.getppid(), number)
            time.sleep(0.05)

    def install(strike: Strike) -> None:
        if strike.is_victim:
            strike.before(owner, name, act)

    return install


def stop(strike: Strike) -> None:
    if strike.is_victim:
        strike.before(Transformer, "forward", lambda *a, **o: os.kill(os.getpid(), signal.SIGSTOP))


def other_collective(strike: Strike) -> None:
    def gather(*arguments: Any, **options: Any) -> None:
        dist.all_gather([torch.zeros(4) for _ in range(strike.world)], torch.ones(4))

    if strike.is_victim:
        strike.before(train_step, "gradient_norm", gather)


def crash_after_bytes(owner: Any, name: str, most: int) -> Callable[[Strike], None]:
    """The system kills a process that writes the k-th byte of a file."""

    def install(strike: Strike) -> None:
        count = strike.chance.randrange(most)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

        def limit(*arguments: Any, **options: Any) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (count, count))

        strike.before(owner, name, limit)

    return install


def die_in(owner: Any, name: str) -> Callable[[Strike], None]:
    def install(strike: Strike) -> None:
        strike.before(owner, name, lambda *a, **o: os.kill(os.getpid(), signal.SIGKILL))

    return install


def refuse(
    owner: Any, name: str, number: int, place: Callable[..., Path], by_victim: bool = True
) -> Callable[[Strike], None]:
    """The system refuses a write; of all ranks where the one that writes is not for the fault to choose."""

    def act(*arguments: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), str(place(*arguments)))

    def install(strike: Strike) -> None:
        if strike.is_victim or not by_victim:
            strike.before(owner, name, act)

    return install


# files of a stopped job


def checkpoints(job: Job) -> tuple[Path, Path]:
    """The newest two, the older first."""
    older, newer = sorted((job.output / "checkpoints").glob("step-*"))[-2:]
    return older, newer


def shard_of(folder: Path, chance: Random) -> Path:
    return chance.choice(sorted(folder.glob("rank-*.safetensors")))


def flip(which: Callable[[Path, Random], Path]) -> Callable[[Job, Random], str]:
    def damage(job: Job, chance: Random) -> str:
        path = which(checkpoints(job)[1], chance)
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        return rf"{path.name}.*trying the checkpoint before it"

    return damage


def other_manifest(job: Job, chance: Random) -> str:
    older, newer = checkpoints(job)
    shutil.copyfile(older / manifest.MANIFEST, newer / manifest.MANIFEST)
    return rf"{newer.name}.*trying the checkpoint before it"


def missing(job: Job, chance: Random) -> str:
    path = shard_of(checkpoints(job)[1], chance)
    path.unlink()
    return rf"{path.name} is missing"


def extra(job: Job, chance: Random) -> str:
    path = shard_of(checkpoints(job)[1], chance)
    shutil.copyfile(path, path.with_name("rank-00007.safetensors"))
    return "rank-00007.safetensors"


def swapped(job: Job, chance: Random) -> str:
    first, second = (checkpoints(job)[1] / f"rank-0000{rank}.safetensors" for rank in (0, 1))
    aside = first.rename(first.with_name("aside"))
    second.rename(first)
    aside.rename(second)
    return r"rank-0000\d.safetensors.*trying the checkpoint before it"


# numbers


def exactly(strike: Strike) -> bool:
    return strike.step == strike.spec.step


def nan_in(place: str) -> Callable[[Strike], None]:
    def install(strike: Strike) -> None:
        def spoil(tensor: torch.Tensor) -> torch.Tensor:
            if exactly(strike):
                strike.note()
                return tensor * math.nan
            return tensor

        def hook(module: Any, given: Any, hidden: torch.Tensor) -> torch.Tensor | None:
            if place == "loss":
                return spoil(hidden)
            hidden.register_hook(spoil)
            return None

        def attach(run: loop.Trainer, number: int) -> None:
            if exactly(strike):
                norm, router = run.model.norm, run.step.routers[0]
                if place == "router":
                    router.register_forward_pre_hook(lambda module, given: (spoil(given[0]),))
                else:
                    norm.register_forward_hook(hook)

        if strike.is_victim:
            strike.before(loop.Trainer, "_batch", attach, once=False, always=True)

    return install


def skip(strike: Strike) -> None:
    """The reference of a step that is not finite: it is left out, and nothing else."""
    reduce_flags = train_step.reduce_flags

    def refusing(*arguments: Any) -> torch.Tensor:
        flags = reduce_flags(*arguments)
        if exactly(strike):
            flags[1] = 1  # a norm that is not finite
        return flags

    train_step.reduce_flags = refusing


def poison(strike: Strike) -> None:
    """One batch of bytes that do not occur in the text, which is ASCII."""
    read = loop.Trainer._batch

    def poisoned(run: loop.Trainer, number: int) -> Batch:
        batch = read(run, number)
        if number == strike.spec.step:
            strike.note()
            ids = 120 + 37 * torch.arange(batch.tokens_BT.numel()).view(batch.tokens_BT.shape) % 11
            return Batch(ids, ids.flip(0, 1))
        return batch

    loop.Trainer._batch = poisoned  # type: ignore[method-assign]


def leave_out(strike: Strike) -> None:
    """The reference of a poisoned batch: those from the last checkpoint to it are never seen."""
    step, make = strike.spec.step, StepGuard.__init__

    def made(guard: StepGuard, settings: Any) -> None:
        make(guard, settings)
        guard.left_out = [BatchRange(step // CHECKPOINT_EVERY * CHECKPOINT_EVERY, step + 1)]

    StepGuard.__init__ = made  # type: ignore[method-assign]


def flip_weight(strike: Strike) -> None:
    def act(optimizers: Optimizers, *arguments: Any) -> None:
        assert strike.run is not None
        weights = [to_local(p).detach() for p in strike.run.model.parameters()]
        bits = strike.chance.choice(weights).view(torch.int32).view(-1)
        bits[strike.chance.randrange(len(bits))] ^= 1 << strike.chance.randrange(31)

    if strike.is_victim:
        strike.before(Optimizers, "step", act)


# ranks that are not like the others


def other_recipe(**changes: Any) -> Callable[[Strike], None]:
    def install(strike: Strike) -> None:
        def read(line: str) -> Any:
            strike.note()
            recipe = Recipe.model_validate_json(line)
            pretrain = recipe.pretrain.model_copy(update={k: v for k, v in changes.items() if k != "seed"})
            return recipe.model_copy(update={"pretrain": pretrain, "seed": changes.get("seed", recipe.seed)})

        Recipe = launch.Recipe
        if strike.is_victim:
            launch.Recipe = SimpleNamespace(model_validate_json=read)  # type: ignore[assignment, misc]

    return install


def other_code(strike: Strike) -> None:
    if strike.is_victim:
        strike.note()
        control_plane.code_digest = lambda: "sha256:0123456789"


# the text


def harm_text(how: str) -> Callable[[Strike], None]:
    """A file of tokens is changed, cut or deleted just before it is read."""

    def install(strike: Strike) -> None:
        def act(shards: Shards, start: int, out: Any) -> None:
            path = shards.folder / shards.infos[bisect_right(shards.starts, start) - 1].file
            shutil.copytree(shards.folder, strike.kept)
            if how == "deleted":
                path.unlink()
            elif how == "cut":
                os.truncate(path, path.stat().st_size // 2)
            else:
                with path.open("r+b") as file:
                    file.write(strike.chance.randbytes(path.stat().st_size))

        if strike.is_victim:
            strike.before(Shards, "read_into", act)

    return install


def restore_text(job: Job) -> None:
    shards = job.run / "tokenizer" / "shards" / "train"
    shutil.rmtree(shards)
    (job.folder / "kept").rename(shards)


# time


def slow(owner: Any, name: str, seconds: float, *, everybody: bool = False) -> Callable[[Strike], None]:
    def install(strike: Strike) -> None:
        if strike.is_victim or everybody:
            strike.before(owner, name, lambda *a, **o: time.sleep(seconds), once=False)

    return install


def waited(kind: str, seconds: float) -> Callable[[Job], None]:
    def check(job: Job) -> None:
        split = read_times(job.output)
        assert split and split[kind] >= seconds, f"booked as {kind}: {split}"

    return check


def jumping_clock(strike: Strike) -> None:
    true_time, chance = time.time, Random(f"{strike.spec} {strike.rank}")

    def jumping() -> float:
        if strike.is_due():
            strike.note()
            return true_time() + chance.uniform(-1e8, 1e8)
        return true_time()

    time.time = jumping


def port_in_use(strike: Strike) -> None:
    """The processes meet at a port, as torchrun's do, and another process has it."""
    strike.note()
    process_group.FOLDER = "NONE"
    said = strike.folder / "port"
    if strike.rank == 0:
        strike.taken = socket.create_server(("127.0.0.1", 0), reuse_port=False)
        write_atomic(said, str(strike.taken.getsockname()[1]))
    while not said.exists():
        time.sleep(0.01)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": said.read_text()}


def fall_asleep(strike: Strike) -> None:
    """A whole job that is taken for dead; with no launcher that would end it or speak for it, as on other machines."""

    def say(path: Path, report: dict[str, Any]) -> None:
        print(report["sentence"], file=sys.stderr, flush=True)

    processes.end_with_parent = lambda: None
    strike.before(processes, "write_json", say, always=True)
    strike.before(Transformer, "forward", lambda *a, **o: os.kill(os.getpid(), signal.SIGSTOP))


def wake(sleepers: list[int], rank: int, world: int) -> None:
    """The successor trains when the others wake up."""
    read, is_first = loop.Trainer._batch, [rank == 0]

    def waking(run: loop.Trainer, number: int) -> Batch:
        if is_first.pop():
            for process in sleepers:
                os.kill(process, signal.SIGCONT)
        is_first.append(False)
        return read(run, number)

    loop.Trainer._batch = waking  # type: ignore[method-assign]


def succeed(job: Job, install: Install) -> Attempt:
    """A second attempt while the first sleeps, which then wakes up and goes on."""
    first = Started(job, install)
    while len(list(job.folder.glob("struck-*"))) < job.world:
        assert first.launcher.is_alive(), "the first attempt ended before it was stopped"
        time.sleep(0.02)
    first.launcher.kill()
    first.launcher.join()
    ended = Started(job, partial(wake, first.rank_processes())).wait()
    return Attempt(ended.status, ended.said + first.wait().said)


def forget_failures(job: Job) -> None:
    (job.output / "failures.json").unlink()
