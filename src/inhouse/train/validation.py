"""The loss on text that is not trained on, every so many steps; it changes nothing of the training.

Shapes: B sequences, T tokens.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inhouse.data.shards import INDEX, Shards
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.train.loop import Callback, Trainer
from inhouse.train.step import Batch, Gradients

STEPS = 4  # whose tokens the sample has at most; with one every 100 steps a hundredth of the time


class Validation(Callback):
    """Logs `validation_loss`, in nats a token, every `validate_every` steps and at the end.

    `batches` are this process's rows of a fixed sample, of the shape of a step's batch so that nothing is compiled for
    them; processes have the same number. With `num_bytes`, of the text of the whole sample, it logs bits per byte too.
    A run with two of them names the second: `name_loss` and `name_bits_per_byte`.
    """

    def __init__(self, batches: Sequence[Batch], num_bytes: int | None = None, name: str = "validation") -> None:
        self.batches, self.num_bytes, self.name = batches, num_bytes, name

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if trainer.done % trainer.settings.validate_every and trainer.done != trainer.num_steps:
            return
        start = time.perf_counter()
        with trainer.supervisor.validating():
            nats, num_tokens = trainer.step.evaluate(batch.to(trainer.device) for batch in self.batches)
        if num_tokens and math.isfinite(nats):
            trainer.figures[f"{self.name}_loss"] = nats / num_tokens
            if self.num_bytes:
                trainer.figures[f"{self.name}_bits_per_byte"] = nats / math.log(2) / self.num_bytes
        trainer.paused += time.perf_counter() - start


def heldout_windows(shards: Path, length: int, rows: int) -> np.ndarray:
    """Windows (B, T + 1) spread evenly over the tokens in `shards`: `STEPS` times `rows` of them, or all there are.

    What is missing to a multiple of `rows`, and behind the last token, is `NOT_TRAINED`; without any text B is 0.
    """
    if not (shards / INDEX).is_file():
        return np.empty((0, length + 1), dtype=np.int64)
    text = Shards(shards)
    count = max(0, math.ceil((text.num_tokens - 1) / length))  # the last may be shorter
    chosen = min(count, STEPS * rows)
    windows = np.full((math.ceil(chosen / rows) * rows, length + 1), NOT_TRAINED, dtype=np.int64)
    for row in range(chosen):
        start = row * count // chosen * length
        text.read_into(start, windows[row, : min(length + 1, text.num_tokens - start)])
    return windows
