"""Runs a function in processes of its own: several that form a gloo group, or one that is to die."""

import multiprocessing
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = timedelta(seconds=180)  # a busy machine is slow
# one server imports what takes seconds to, and every process is forked off it
_PRELOADED = [
    "inhouse.train.stage", "inhouse.pipeline.runner", "torch._dynamo", "torch.distributed.checkpoint",
    "torch.distributed.fsdp", "torch.distributed.pipelining", "torch.distributed.tensor", "tensorboardX",
    "hypothesis.strategies", "pytest", "bench.parallel", "tests.frozen",
]  # fmt: skip
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(_PRELOADED)


def in_processes(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(*arguments)` in each of `world` processes; what it returned, by rank. Raises what one raised."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(world, CONTEXT) as pool:
        store = str(Path(folder) / "store")
        futures = [pool.submit(_member, rank, world, store, function, arguments) for rank in range(world)]
        return [future.result() for future in futures]


def _member(rank: int, world: int, store: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, world), rank=rank, world_size=world, timeout=TIMEOUT)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()


def exit_code(function: Callable[..., Any], *arguments: Any) -> int | None:
    """Of a process that runs only this; negative: the signal that killed it."""
    process = CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join(TIMEOUT.total_seconds())
    process.kill()
    process.join()
    return process.exitcode
