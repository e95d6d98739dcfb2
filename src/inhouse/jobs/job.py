"""One recipe to carry out on a cluster: how many nodes, and what torchrun is given on each."""

import sys
from pathlib import Path
from typing import NamedTuple

from inhouse.jobs.settings import ClusterSettings

MAX_RESTARTS = 10  # of processes inside a job; a run that fails the same way three times stops by itself
LAST_WORDS = 15  # seconds between the end of the grace period and the kill
_TRAINING = ("pretrain", "midtrain", "sft", "rl")  # stages that a job's end must not surprise


class Job(NamedTuple):
    """The recipe's file, what `--set` changes in it, the folder of runs, and the command's other options."""

    name: str
    processes: int
    cluster: ClusterSettings
    recipe: Path
    overrides: list[str]
    runs: Path
    options: list[str] = []  # noqa: RUF012  (never changed)

    @property
    def nodes(self) -> int:
        return -(-self.processes // self.cluster.gpus_per_node)

    @property
    def gpus(self) -> int:
        """On each node."""
        return self.processes // self.nodes

    def torchrun(self, is_container: bool) -> list[str]:
        """torch's own launcher, under this environment's interpreter, or a container's: a PATH may have another."""
        return ["python" if is_container else sys.executable, "-m", "torch.distributed.run"]

    def torchrun_arguments(self, runs: Path, recipe: str, *options: str) -> list[str]:
        """Those after the rendezvous: a log a rank, of which the first of each node is shown too.

        The user's changes come after the time that the cluster gives a run to save.
        """
        grace = [f"{stage}.grace_seconds={self.cluster.grace_seconds}" for stage in _TRAINING]
        sets = [part for override in (*grace, *self.overrides) for part in ("--set", override)]
        return [
            f"--nnodes={self.nodes}",
            f"--nproc-per-node={self.gpus}",
            f"--max-restarts={MAX_RESTARTS}",
            f"--log-dir={runs / self.name / 'logs'}",
            "--tee=3",
            "--local-ranks-filter=0",
            *("-m", "inhouse", "make", recipe, *sets, *self.options, *options, "--runs", str(runs)),
        ]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(self.cluster.grace_seconds),
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # a restart must not meet what the attempt before has left
        }
