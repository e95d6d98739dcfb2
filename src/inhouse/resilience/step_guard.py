"""Steps that must not reach the weights: what is not finite is skipped, a spike of the loss is rewound.

All ranks decide alike: on a flag that is all-reduced, or on the loss of the whole step, which every rank has.
"""

import math
import statistics
from collections import deque
from enum import Enum
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from inhouse.data.data_order import BatchRange, batch_of_step, leave_out
from inhouse.resilience.settings import ResilienceSettings

_SIGMA = 1.4826  # times the median absolute deviation, it estimates a normal distribution's standard deviation
_LEAST_JUMP = 0.5  # nats: late in fine-tuning the losses lie so close that noise is many deviations
_MOST_REWINDS = 10


class Verdict(Enum):
    """What becomes of a step whose gradient is there, but not yet in the weights."""

    APPLY = "apply"
    SKIP = "skip"
    REWIND = "rewind"


class StepFlags(NamedTuple):
    """What all ranks know alike after `reduce_flags`."""

    bad_rank: int | None  # a rank whose own loss is not finite; the highest where there are several
    is_finite: bool
    stop: bool


def reduce_flags(loss: float, norm: float, stop: bool, device: torch.device | str = "cpu") -> StepFlags:
    """One all-reduce of three integers: is every rank's own loss and gradient norm finite, was any asked to stop?"""
    is_distributed = dist.is_initialized()
    rank = dist.get_rank() if is_distributed else 0
    bad_loss, bad_norm = not math.isfinite(loss), not math.isfinite(norm)
    flags = torch.tensor([rank + 1 if bad_loss else 0, bad_norm, stop], dtype=torch.int64, device=device)
    if is_distributed:
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    highest, any_norm, any_stop = flags.tolist()
    return StepFlags(highest - 1 if highest else None, not (highest or any_norm), bool(any_stop))


class StepGuard:
    """Judges every step, and remembers what it needs for the next: the last losses and the batches left out.

    A spike is a loss above median + k deviations of the last steps (deviations by the median absolute deviation, which
    the spike itself cannot widen), and at least half a nat above the median. It is judged once the window is full.
    """

    def __init__(self, settings: ResilienceSettings) -> None:
        self._settings = settings
        self._losses: deque[float] = deque(maxlen=settings.spike_window)
        self._consecutive = 0  # steps skipped since the last one that was not
        self._rewinds, self._rewound_to = 0, -1  # how often, to which checkpoint
        self.skipped: list[int] = []  # batches
        self.left_out: list[BatchRange] = []

    @property
    def num_left_out(self) -> int:
        """Batches left out after spikes."""
        return sum(end - first for first, end in self.left_out)

    def batch(self, step: int) -> int:
        """The index of the batch that `step` trains on."""
        return batch_of_step(step, self.left_out)

    def judge(self, step: int, loss: float, flags: StepFlags) -> Verdict:
        """Apply, skip or rewind `step` (from 0), whose `loss` is the mean over all ranks.

        Raises `ValueError` after `max_skipped_steps` skipped steps in a row.
        """
        if not flags.is_finite:
            self._skip(step, flags)
            return Verdict.SKIP
        self._consecutive = 0
        if self._is_spike(loss):
            return Verdict.REWIND
        self._losses.append(loss)
        return Verdict.APPLY

    def skip(self, step: int) -> None:
        """A spike with no checkpoint before it to go back to: its batch does not reach the weights."""
        self.skipped.append(self.batch(step))

    def rewind(self, spike_step: int, checkpoint_step: int, state: dict[str, Any]) -> BatchRange:
        """Go back to a checkpoint's `state`, and leave out every batch from there to the spike's, that one included.

        What is returned is left out from now on. Raises `ValueError` after ten rewinds to the same checkpoint.
        """
        self._rewinds = self._rewinds + 1 if checkpoint_step == self._rewound_to else 1
        self._rewound_to = checkpoint_step
        if self._rewinds > _MOST_REWINDS:
            raise ValueError(
                f"the loss spiked {self._rewinds} times after step {checkpoint_step}, whatever batches were left out; "
                f"lower the learning rates, or look at batches {self.left_out[-1].first} to {self.left_out[-1].end - 1}"
            )
        poisoned = BatchRange(self.batch(checkpoint_step), self.batch(spike_step) + 1)
        left_out = leave_out(self.left_out, poisoned)
        self.load_state(state)
        self.left_out = left_out
        return poisoned

    def state(self) -> dict[str, Any]:
        """Everything that a restart needs, ready for JSON: finite numbers only."""
        return {
            "losses": list(self._losses),
            "consecutive_skipped": self._consecutive,
            **self.untrained(),
        }

    def untrained(self) -> dict[str, Any]:
        """What of the data order did not reach the weights: `skipped` batches, `left_out` ranges [first, end)."""
        return {"skipped": list(self.skipped), "left_out": [list(part) for part in self.left_out]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self._losses = deque(state["losses"], maxlen=self._settings.spike_window)
        self._consecutive = state["consecutive_skipped"]
        self.skipped = list(state["skipped"])
        self.left_out = [BatchRange(first, end) for first, end in state["left_out"]]

    def _skip(self, step: int, flags: StepFlags) -> None:
        self._consecutive += 1
        self.skipped.append(self.batch(step))
        if self._consecutive >= self._settings.max_skipped_steps:
            what = "the gradient is" if flags.bad_rank is None else f"the loss of rank {flags.bad_rank} is"
            raise ValueError(
                f"{what} not finite at step {step + 1}, as at the {self._consecutive - 1} before it, all skipped; "
                f"lower the learning rates (matrix_lr, embedding_lr, head_lr); the last checkpoint is kept"
            )

    def _is_spike(self, loss: float) -> bool:
        if len(self._losses) < self._settings.spike_window:
            return False
        median = statistics.median(self._losses)
        deviation = _SIGMA * statistics.median(abs(x - median) for x in self._losses)
        return loss - median > max(self._settings.spike_deviations * deviation, _LEAST_JUMP)
