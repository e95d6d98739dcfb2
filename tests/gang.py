"""Several processes of one gloo group for a test, each running one function and writing to a file of its own."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from tests.processes import CONTEXT

from inhouse.common.processes import RankLost

_LONGEST = 300  # seconds: a busy machine is slow


class Gang:
    """`work(rank, folder, *arguments)` in `world` processes; the store lives in the test's own process."""

    def __init__(self, work: Callable[..., None], world: int, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes = [
            CONTEXT.Process(target=member, args=(work, rank, world, self.store.port, folder, arguments))
            for rank in range(world)
        ]
        for process in self.processes:
            process.start()

    def wait(self, *ranks: int) -> list[int | None]:
        """The exit statuses of these ranks, or of all; None of one that did not end."""
        chosen = [self.processes[rank] for rank in ranks] or self.processes
        for process in chosen:
            process.join(_LONGEST)
        statuses = [process.exitcode for process in chosen]
        for process in self.processes:
            process.kill()
            process.join()
        return statuses

    def said(self, rank: int) -> str:
        """All that a rank wrote to stderr."""
        return (self.folder / f"rank-{rank}.err").read_text()


def member(
    work: Callable[..., None], rank: int, world: int, port: int, folder: Path, arguments: tuple[str, ...]
) -> None:
    """What each process runs."""
    os.dup2(os.open(folder / f"rank-{rank}.err", os.O_WRONLY | os.O_CREAT), 2)
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, is_master=False)
    group = dist.PrefixStore("group", store)
    dist.init_process_group("gloo", store=group, rank=rank, world_size=world, timeout=timedelta(seconds=120))
    member.store = store  # type: ignore[attr-defined]
    try:
        work(rank, folder, *arguments)
    except RankLost as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_status)
    dist.destroy_process_group()
