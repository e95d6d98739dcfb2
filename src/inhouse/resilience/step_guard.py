"""Steps that must not reach the weights: what is not finite is skipped, a spike of the loss is rewound.

A spike never ends a run: what comes back whatever is left out is a kind of batch, or a run that diverges, and which of
them it was is known at the end (`learning_check`).

All ranks decide alike: on a flag that is all-reduced, or on the loss of the whole step, which every rank has.
"""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from inhouse.data.data_order import BatchRange, batch_of_step, leave_out
from inhouse.resilience.settings import ResilienceSettings

_SIGMA = 1.4826  # times the median absolute deviation, it estimates a normal distribution's standard deviation
_LEAST_JUMP = 0.5  # nats: late in fine-tuning the losses lie so close that noise is many deviations
_LEAST_RISE = 0.1  # of the highest loss: in a run that has diverged, half a nat is nothing
MOST_REWINDS = 5  # from one place, or for losses as high
_REMEMBERED = 16  # windows, or half of the steps so far: how long a spike counts


class Verdict(Enum):
    """What becomes of a step whose gradient is there, but not yet in the weights."""

    APPLY = "apply"
    SKIP = "skip"
    REWIND = "rewind"
    GO_ON = "go on"  # a spike as before, after which rewinding does not help: applied


class StepFlags(NamedTuple):
    """What all ranks know alike after `reduce_flags`."""

    bad_rank: int | None  # a rank whose own loss is not finite; the highest where there are several
    is_finite: bool
    stop: bool

    @classmethod
    def of(cls, flags: Sequence[float]) -> "StepFlags":
        """What `reduce_flags` gave, once it is read."""
        highest, any_norm, any_stop = (int(flag) for flag in flags)
        return cls(highest - 1 if highest else None, not (highest or any_norm), bool(any_stop))


class Spike(NamedTuple):
    """A loss that was rewound, dropped where there was no checkpoint yet, or the last of its like that was applied."""

    step: int
    place: int  # the checkpoint to go back to
    loss: float


def reduce_flags(loss: Tensor, norm: Tensor, stop: bool) -> Tensor:
    """One all-reduce of three integers: is every rank's own loss and gradient norm finite, was any asked to stop?

    They stay on the device, for `StepFlags.of`: the step reads them with its other numbers, and waits once.
    """
    is_distributed = dist.is_initialized()
    rank = dist.get_rank() if is_distributed else 0
    flags = torch.stack(
        ((rank + 1) * ~loss.isfinite(), ~norm.isfinite(), torch.full_like(loss, stop, dtype=torch.bool))
    )
    if is_distributed:
        dist.all_reduce(flags, dist.ReduceOp.MAX)
    return flags


class StepGuard:
    """Judges every step, and remembers what it needs for the next: the last losses, spikes, batches left out.

    A spike is a loss above the highest of the last `spike_window` by more than `spike_deviations` deviations of them
    (by the median absolute deviation), half a nat, and a tenth of that highest loss. So what the window has seen is no
    spike, whatever the mixture. It is judged once the window is full.

    It is rewound, unless five spikes of the last 16 windows, or of the run's second half so far, were rewound from the
    same checkpoint, or were as high. One that is applied counts in place of the oldest of those five, so that a rare
    kind of batch, once known, stays known for as long as it comes.
    """

    def __init__(self, settings: ResilienceSettings) -> None:
        self._settings = settings
        self._losses: deque[float] = deque(maxlen=settings.spike_window)
        self.consecutive = 0  # steps skipped since the last one that was not
        self._spikes: list[Spike] = []
        self.skipped: list[int] = []  # batches
        self.left_out: list[BatchRange] = []

    @property
    def num_left_out(self) -> int:
        """Batches left out after spikes."""
        return sum(end - first for first, end in self.left_out)

    @property
    def window(self) -> list[float]:
        """The last losses that reached the weights; none before there are `spike_window`."""
        return list(self._losses) if len(self._losses) == self._settings.spike_window else []

    def batch(self, step: int) -> int:
        """The index of the batch that `step` trains on."""
        return batch_of_step(step, self.left_out)

    def judge(self, step: int, loss: float, flags: StepFlags, place: int = 0) -> Verdict:
        """What becomes of `step` (from 0), whose `loss` is the mean over all ranks; it would be rewound to `place`.

        Raises `ValueError` after `max_skipped_steps` skipped steps in a row.
        """
        if not flags.is_finite:
            self._skip(step, flags)
            return Verdict.SKIP
        self.consecutive = 0
        jump = self._least_jump()
        is_spike = loss - max(self._losses, default=loss) > jump
        remembered = max(_REMEMBERED * self._settings.spike_window, step // 2)
        self._spikes = [s for s in self._spikes if step - s.step <= remembered]
        alike = [s for s in self._spikes if s.place == place or s.loss + jump >= loss]
        if is_spike:
            self._spikes.append(Spike(step, place, loss))
            if len(alike) < MOST_REWINDS:
                return Verdict.REWIND
            self._spikes.remove(alike[0])
        self._losses.append(loss)
        return Verdict.GO_ON if is_spike else Verdict.APPLY

    def skip(self, step: int) -> None:
        """A spike with no checkpoint before it to go back to: its batch does not reach the weights."""
        self.skipped.append(self.batch(step))

    def rewind(self, spike_step: int, checkpoint_step: int, state: dict[str, Any]) -> BatchRange:
        """Go back to a checkpoint's `state`, and leave out every batch from there to the spike's, that one included.

        What is returned is left out from now on.
        """
        poisoned = BatchRange(self.batch(checkpoint_step), self.batch(spike_step) + 1)
        left_out, spikes = leave_out(self.left_out, poisoned), self._spikes
        self.load_state(state)
        self.left_out, self._spikes = left_out, spikes
        return poisoned

    def state(self) -> dict[str, Any]:
        """Everything that a restart needs, ready for JSON: finite numbers only."""
        return {
            "losses": list(self._losses),
            "consecutive_skipped": self.consecutive,
            "spikes": [list(spike) for spike in self._spikes],
            **self.untrained(),
        }

    def untrained(self) -> dict[str, Any]:
        """What of the data order did not reach the weights: `skipped` batches, `left_out` ranges [first, end)."""
        return {"skipped": list(self.skipped), "left_out": [list(part) for part in self.left_out]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self._losses = deque(state["losses"], maxlen=self._settings.spike_window)
        self.consecutive = state["consecutive_skipped"]
        self._spikes = [Spike(*spike) for spike in state.get("spikes", [])]  # older checkpoints have none
        self.skipped = list(state["skipped"])
        self.left_out = [BatchRange(first, end) for first, end in state["left_out"]]

    def _skip(self, step: int, flags: StepFlags) -> None:
        self.consecutive += 1
        self.skipped.append(self.batch(step))
        if self.consecutive >= self._settings.max_skipped_steps:
            what = "the gradient is" if flags.bad_rank is None else f"the loss of rank {flags.bad_rank} is"
            raise ValueError(
                f"{what} not finite at step {step + 1}, as at the {self.consecutive - 1} before it, all skipped; "
                f"lower the learning rates (lr_factor); the last checkpoint is kept"
            )

    def _least_jump(self) -> float:
        """By how much a spike is above the highest loss of the window, in nats."""
        if not self.window:
            return math.inf
        median = statistics.median(self._losses)
        deviation = _SIGMA * statistics.median(abs(x - median) for x in self._losses)
        return max(self._settings.spike_deviations * deviation, _LEAST_JUMP, _LEAST_RISE * max(self._losses))
