"""Several processes of one gloo group for a test, each running one function of the test's module."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from inhouse.common.ranks import RankLost

ROOT = Path(__file__).parents[2]


class Gang:
    """`work(rank, folder, *arguments)` in `world` processes; the store lives in the test's own process."""

    def __init__(self, work: Callable[..., None], world: int, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
        self.processes = []
        for rank in range(world):
            what = [work.__module__, work.__name__, str(rank), str(world), str(self.store.port), str(folder)]
            command = [sys.executable, "-c", "from tests.train.gang import member; member()", *what, *arguments]
            with (folder / f"rank-{rank}.err").open("w") as errors:
                self.processes.append(subprocess.Popen(command, stderr=errors, env=environment, cwd=ROOT))

    def wait(self, *ranks: int) -> list[int]:
        """The exit statuses of these ranks, or of all."""
        chosen = [self.processes[rank] for rank in ranks] or self.processes
        try:
            return [process.wait(timeout=60) for process in chosen]
        finally:
            self.kill()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self, rank: int) -> str:
        """All that a rank wrote to stderr."""
        return (self.folder / f"rank-{rank}.err").read_text()


def member() -> None:
    """What each process runs."""
    module, work, rank, world, port, folder, *arguments = sys.argv[1:]
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", int(port), is_master=False)
    group = dist.PrefixStore("group", store)
    dist.init_process_group("gloo", store=group, rank=int(rank), world_size=int(world), timeout=timedelta(seconds=30))
    member.store = store  # type: ignore[attr-defined]
    try:
        getattr(importlib.import_module(module), work)(int(rank), Path(folder), *arguments)
    except RankLost as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(error.exit_status)
    dist.destroy_process_group()
