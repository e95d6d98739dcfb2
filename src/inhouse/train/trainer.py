"""`train`: the loop with the callbacks that every run has."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.train.callbacks import Checkpoints, Metrics, ReplicaCheck
from inhouse.train.loop import Callback, Trainer
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch


def train(
    model: Transformer,
    batch_of: Callable[[int], Batch],
    num_steps: int,
    settings: TrainSettings,
    output: Path,
    *,
    name: str,
    run_identity: dict[str, Any],
    mesh: Mesh = SINGLE,
    init_weights: Callable[[Transformer], None] | None = None,
    callbacks: Iterable[Callback] = (),
) -> None:
    """Train `model` in place for `num_steps`, spread over `mesh`, whose processes all call this with the same model.

    A model too large to be held whole comes on the `meta` device; `init_weights` then gives each process's part its
    weights. `batch_of(step)` must be a pure function of the step: the sequences of this process's rows
    (`Mesh.dp_rows`). Goes on from the newest checkpoint in `output/checkpoints`, to the same bits as if it had never
    stopped. `run_identity` (seed, data, …) tells this run from another; `name` stands on the progress bar. `callbacks`
    come before the built-in ones: replica check, metrics, checkpoints.
    On SIGTERM it saves a checkpoint and raises `Terminated`. Raises `ValueError` where a checkpoint is damaged or of
    another run, where the loss is not finite for too long, and where replicas differ.
    """
    every = [*callbacks, ReplicaCheck(), Metrics(), Checkpoints()]
    Trainer(model, batch_of, num_steps, settings, output, name, run_identity, mesh, init_weights, every).run()
