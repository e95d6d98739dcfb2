"""Becoming one of the processes of a run: of those that `inhouse make` starts on one machine, or torchrun on many.

Both set RANK, WORLD_SIZE and LOCAL_RANK. The processes of one machine meet in a file (`common.processes`), so no port
can be taken; torchrun's at its MASTER_ADDR and MASTER_PORT.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
import torch.distributed as dist

from inhouse.common.devices import pick_device
from inhouse.common.processes import FOLDER
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import SLOW_PHASE_FACTOR, ParallelSettings, check_world


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def join(parallel: ParallelSettings, device: str, name: str) -> Iterator[Mesh]:
    """Inside, the mesh of all processes of the stage `name`, on `device` ("auto", "cpu" or "cuda").

    Raises `ValueError` where another number of processes was started than `parallel` asks for, or more on a machine
    than it has GPUs.
    """
    check_world(parallel, world_size())
    if parallel.processes == 1:
        yield Mesh(parallel)
        return
    kind = pick_device(device).type
    if kind == "cuda":
        torch.cuda.set_device(_own_gpu())
    # the watchdog ends a hang; this one is for when it cannot, and must leave it the time to speak first
    timeout = timedelta(seconds=2 * SLOW_PHASE_FACTOR * parallel.timeout_seconds)
    dist.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        store=dist.PrefixStore(name, meeting_place()),  # a name of its own: keys of an earlier stage are still there
        rank=rank(),
        world_size=world_size(),
        timeout=timeout,
    )
    try:
        _check_layout_alike(parallel)
        mesh = Mesh(parallel, kind)
        set_timeouts(timeout)
        yield mesh
    finally:
        dist.destroy_process_group()


def set_timeouts(timeout: timedelta) -> None:
    """Of all groups that stand. Those of a mesh take over no other's, and have torch's default, 10 minutes on NCCL,
    in which a first step may still be compiling (pytorch #119613).
    """
    for group in list(dist.distributed_c10d._world.pg_map):
        dist.distributed_c10d._set_pg_timeout(timeout, group)


def _own_gpu() -> int:
    number, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= count:
        raise ValueError(
            f"rank {rank()} would need GPU {number} of its machine, which has {count}: start no more than {count} "
            f'processes there, or set device = "cpu"'
        )
    return number


def _check_layout_alike(parallel: ParallelSettings) -> None:
    """Before the mesh is made: ranks of other layouts would wait for one another in other groups."""
    store = dist.group.WORLD.get_group_store()  # type: ignore[union-attr]
    mine = parallel.model_dump_json()
    if rank() == 0:
        store.set("layout", mine)
    if (theirs := store.get("layout").decode()) != mine:
        raise ValueError(
            f"[parallel] of rank {rank()} is {mine}, of rank 0 {theirs}: give all machines the same recipe, then start "
            f"again"
        )


@cache
def meeting_place() -> dist.Store:
    """The store that all processes of the run share, for as long as it runs."""
    if folder := os.environ.get(FOLDER):
        return dist.FileStore(str(Path(folder) / "store"), world_size())
    try:
        store: dist.Store = next(dist.rendezvous("env://"))[0]
    except dist.DistNetworkError as error:
        where = f"{os.environ.get('MASTER_ADDR')}, port {os.environ.get('MASTER_PORT')}"
        is_taken = "EADDRINUSE" in str(error)
        reason = "it is in use: give another MASTER_PORT" if is_taken else str(error).partition("\n")[0]
        raise ValueError(f"the processes of the run cannot meet at {where}: {reason}") from error
    # torchrun starts all again beside what the attempt before has left in its store
    return dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
