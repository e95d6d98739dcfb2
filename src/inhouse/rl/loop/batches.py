"""The batches of a climb: rollouts sampled when they are taken, packed into rows.

Shapes: B rows, T tokens of a row.
"""

from collections.abc import Callable
from types import TracebackType

import torch

from inhouse.engine.engine import Engine
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.rl.learner import PolicyStep
from inhouse.rl.policy_batch import PolicyBatch, pack_groups
from inhouse.rl.queue import RolloutQueue
from inhouse.rl.rollouts import Group
from inhouse.rl.sampling import Sampled
from inhouse.rl.settings import RlSettings
from inhouse.train.prefetch import Batches


class RolloutBatches(Batches):
    """Batch n is part n mod u of sampling n // u, where u is the number of `updates` on one sampling.

    `refresh` brings the learner's weights to `engine` and gives their digest. Rows have `length` tokens, filled up
    with the id `filler`.
    """

    def __init__(
        self,
        queue: RolloutQueue,
        step: PolicyStep,
        engine: Engine,
        refresh: Callable[[], str],
        settings: RlSettings,
        length: int,
        filler: int,
    ) -> None:
        self.engine, self.refresh = engine, refresh
        self._queue, self._step, self._settings = queue, step, settings
        self._length, self._filler = length, filler
        self._parts: dict[int, PolicyBatch] = {}
        self._groups: dict[int, list[Group]] = {}
        self.sampled = Sampled([], [], 0, "")  # what the last batch is a part of
        self.groups: list[Group] = []  # of the last batch; none: there is nothing to learn from
        self.max_tokens = 0  # of its answers

    def begin(self, number: int) -> None:
        """Nothing: the weights that are to sample it are not there yet."""

    def take(self, number: int) -> PolicyBatch:  # type: ignore[override]
        if number not in self._parts:
            self._sample(number // self._settings.updates)
        self.groups = self._groups.pop(number)
        return self._parts.pop(number)

    def _sample(self, number: int) -> None:
        updates = self._settings.updates
        self.sampled = self._queue.next(number, self.refresh())
        self.max_tokens = max_tokens_at(number, self._settings)
        self._groups = {number * updates + part: self.sampled.groups[part::updates] for part in range(updates)}
        self._parts = {each: self._packed(groups) for each, groups in self._groups.items()}

    def _packed(self, groups: list[Group]) -> PolicyBatch:
        if not groups:
            return self._step.share(blank(self._length, self._filler))
        batch = self._step.share(pack_groups(groups, self._length, self._filler, self._settings.objective))
        return self._step.with_old_logprobs(batch) if self._settings.updates > 1 else batch

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Whoever opened the engine closes it."""


def blank(length: int, filler: int) -> PolicyBatch:
    """A row that teaches nothing."""
    filled, zeros = torch.full((1, length), filler), torch.zeros(1, length)
    targets, documents = torch.full_like(filled, NOT_TRAINED), torch.zeros_like(filled)
    return PolicyBatch(filled, targets, documents, torch.arange(length)[None], zeros, zeros, None, None)


def max_tokens_at(sampling: int, settings: RlSettings) -> int:
    """The limit of answers: from `first_max_tokens` it doubles, evenly over the first half of the climb."""
    limits = [settings.first_max_tokens or settings.max_tokens]
    while limits[-1] < settings.max_tokens:
        limits.append(min(2 * limits[-1], settings.max_tokens))
    half = max(1, settings.steps // settings.updates // 2)
    return limits[min(sampling * len(limits) // half, len(limits) - 1)]
