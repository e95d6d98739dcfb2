"""Rollouts as rows of a batch: several in a row, each with what the sampler knew of every token.

Shapes: B rows, T tokens of a row, L MoE layers, K experts a token.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.posttrain.rows.packing import best_fit
from inhouse.rl.objective.advantages import advantages
from inhouse.rl.objective.registry import OBJECTIVES
from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.policy_head import KeptSets
from inhouse.rl.rollouts import Group, Rollout


class PolicyBatch(NamedTuple):
    """Rows of rollouts that cannot see one another; what is said of a target stands at the token before it.

    `targets_BT` are `NOT_TRAINED` in prompts, tools' output and filler, whose number in `documents_BT` is 0.
    `sampler_logprobs_BT` fp32. `kept`: the sets that truncation left, of each row (T,); None: all of the vocabulary.
    `experts_BTLK` int16: what the sampler chose for every token, -1 where that is not known; None: chosen afresh.
    `old_logprobs_BT` fp32: under the weights that a batch of several updates began with; None: those of now.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    documents_BT: Tensor
    positions_BT: Tensor
    advantages_BT: Tensor
    sampler_logprobs_BT: Tensor
    kept: tuple[KeptSets, ...] | None
    experts_BTLK: Tensor | None
    old_logprobs_BT: Tensor | None = None

    @property
    def is_trained_BT(self) -> Tensor:
        return self.targets_BT != NOT_TRAINED

    def to(self, device: torch.device) -> "PolicyBatch":
        moved = {name: x.to(device) for name, x in self._asdict().items() if isinstance(x, Tensor)}
        kept = None if self.kept is None else tuple(KeptSets(row.ids_M.to(device), row.ends_N) for row in self.kept)
        return self._replace(**moved, kept=kept)

    def rows(self, rows: slice) -> "PolicyBatch":
        """Some consecutive rows."""
        return PolicyBatch(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]

    def split(self, num_rows: int) -> Iterator["PolicyBatch"]:
        """Micro-batches of at most so many rows, in order."""
        for start in range(0, len(self.tokens_BT), num_rows):
            yield self.rows(slice(start, start + num_rows))

    def filled(self, num_rows: int) -> "PolicyBatch":
        """With so many rows in all: those behind its own teach nothing."""
        missing = num_rows - len(self.tokens_BT)
        assert missing >= 0, "a batch loses no row"
        if not missing:
            return self
        blank = self.rows(slice(0, 1))
        blank = blank._replace(
            targets_BT=torch.full_like(blank.targets_BT, NOT_TRAINED),
            advantages_BT=torch.zeros_like(blank.advantages_BT),
        )
        if blank.kept is not None:
            (row,) = blank.kept
            blank = blank._replace(kept=(KeptSets(row.ids_M[:0], torch.zeros_like(row.ends_N)),))
        return _joined([self, *[blank] * missing])

    def kept_sets(self) -> KeptSets | None:
        """Those of all rows together (B T)."""
        if self.kept is None:
            return None
        firsts = np.cumsum([0, *(len(row.ids_M) for row in self.kept[:-1])]).tolist()
        ends = [row.ends_N + first for row, first in zip(self.kept, firsts, strict=True)]
        return KeptSets(torch.cat([row.ids_M for row in self.kept]), torch.cat(ends))


def _joined(batches: Sequence[PolicyBatch]) -> PolicyBatch:
    columns = list[Any]()
    for column in zip(*batches, strict=True):
        if isinstance(column[0], Tensor):
            columns.append(torch.cat(column))
        else:
            columns.append(None if column[0] is None else sum(column, start=()))
    return PolicyBatch(*columns)


def pack_groups(groups: Sequence[Group], length: int, filler: int, settings: ObjectiveSettings) -> PolicyBatch:
    """All rollouts of the groups in rows of `length` tokens, a pure function of its arguments.

    Best fit, the longest first; `filler` is the id that fills up rows. Raises `ValueError` for a group of one, for a
    rollout that is longer than a row, and where none has a token to learn from.
    """
    by_deviation = OBJECTIVES[settings.name].divides_by_deviation
    learnt = [
        (rollout, float(advantage))
        for group in groups
        for rollout, advantage in zip(group.rollouts, advantages(group.rewards, by_deviation), strict=True)
        if rollout.is_sampled.any()
    ]
    if not learnt:
        raise ValueError(f"none of {len(groups)} groups has a rollout with a token to learn from")
    sizes = np.array([size(rollout) for rollout, _ in learnt])
    if (longest := int(sizes.max())) > length:
        raise ValueError(
            f"a rollout of {longest + 1} tokens, its prompt included, does not fit into a row of {length} + 1: lower "
            f"max_tokens, or make rows longer"
        )
    starts, members = best_fit(np.arange(len(learnt)), sizes, length)
    rows = np.split(members, starts[1:-1])
    shape = len(rows), length
    batch = PolicyBatch(
        torch.full(shape, filler),
        torch.full(shape, NOT_TRAINED),
        torch.zeros(shape, dtype=torch.int64),
        torch.arange(length).repeat(len(rows), 1),
        torch.zeros(shape),
        torch.zeros(shape),
        _kept(learnt, rows, length) if settings.replay_kept else None,
        _experts(learnt, shape) if settings.replay_experts else None,
    )
    for row, row_members in enumerate(rows):
        start = 0
        for document, member in enumerate(row_members.tolist(), 1):
            end = start + int(sizes[member])
            _place(batch.rows(slice(row, row + 1)), slice(start, end), document, *learnt[member])
            start = end
        batch.positions_BT[row, start:] -= start
    return batch


def size(rollout: Rollout) -> int:
    """Tokens of a row that it takes: its last one is a target alone."""
    return len(rollout.prompt_ids) + len(rollout.token_ids) - 1


def _place(row: PolicyBatch, span: slice, document: int, rollout: Rollout, advantage: float) -> None:
    """Write a rollout into a part of a row of one batch."""
    ids = torch.tensor([*rollout.prompt_ids, *rollout.token_ids])
    row.tokens_BT[0, span] = ids[:-1]
    row.documents_BT[0, span] = document
    row.positions_BT[0, span] -= span.start
    answer = slice(span.stop - len(rollout.token_ids), span.stop)  # the places before the answer's tokens
    is_sampled = torch.from_numpy(rollout.is_sampled)
    row.targets_BT[0, answer] = torch.where(is_sampled, ids[len(rollout.prompt_ids) :], NOT_TRAINED)
    row.advantages_BT[0, answer] = torch.where(is_sampled, advantage, 0.0)
    row.sampler_logprobs_BT[0, answer] = torch.from_numpy(rollout.sampler_logprobs)
    if row.experts_BTLK is not None and rollout.experts is not None:
        row.experts_BTLK[0, span] = torch.from_numpy(rollout.experts)


def _experts(learnt: Sequence[tuple[Rollout, float]], shape: tuple[int, int]) -> Tensor | None:
    """Room for those of all rows; none where no rollout has some."""
    known = next((rollout.experts for rollout, _ in learnt if rollout.experts is not None), None)
    return None if known is None else torch.full((*shape, *known.shape[1:]), -1, dtype=torch.int16)


def _kept(
    learnt: Sequence[tuple[Rollout, float]], rows: Sequence[np.ndarray], length: int
) -> tuple[KeptSets, ...] | None:
    """Of every row; none where no rollout has some."""
    if all(rollout.kept is None for rollout, _ in learnt):
        return None
    return tuple(_kept_of_row([learnt[member][0] for member in row.tolist()], length) for row in rows)


def _kept_of_row(rollouts: Sequence[Rollout], length: int) -> KeptSets:
    ids, counts, start = list[np.ndarray](), np.zeros(length, dtype=np.int64), 0
    for rollout in rollouts:
        start += size(rollout)
        if rollout.kept is None:
            continue
        ids.append(rollout.kept.ids)
        answer = counts[start - len(rollout.token_ids) : start]
        answer[rollout.is_sampled] = np.diff(rollout.kept.ends, prepend=0)
    joined = np.concatenate(ids) if ids else np.empty(0, dtype=np.int32)
    return KeptSets(torch.from_numpy(joined), torch.from_numpy(counts.cumsum()))
