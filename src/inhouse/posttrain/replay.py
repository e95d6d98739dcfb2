"""Replay: rows of pretraining text beside the conversations of every batch, so that fine-tuning spoils no base.

Without it the preview's model forgets much of its text (bench/results/replay.md). Rehearsal is an old remedy for
forgetting (Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995).
"""

from pathlib import Path

import torch

from inhouse.data.loader import WindowLoader
from inhouse.posttrain.packing import PackedConversations
from inhouse.train.step import Batch


def split_rows(rows: int, share: float) -> tuple[int, int]:
    """Rows of conversations and of replayed text in a step of `rows`: at least one of conversations."""
    replayed = min(rows - 1, round(rows * share))
    return rows - replayed, replayed


class Replay:
    """Steps of conversations and, below them, windows of the pretraining's shards; a pure function of the step.

    The windows come in an order of their own seed, so that a short fine-tuning does not repeat the first text that
    pretraining saw.
    """

    def __init__(self, conversations: PackedConversations, shards: Path, rows: int) -> None:
        """`rows` of each step are windows of `shards`. Raises `ValueError` where these hold fewer."""
        self.conversations = conversations
        self.sequences_per_step = conversations.sequences_per_step + rows
        self._windows = WindowLoader(shards, conversations.seed + 1, conversations.sequence_length, rows)

    def batch(self, step: int, rows: range | None = None) -> Batch:
        """The batch of one step, (B, T) each; some of its rows only, where `rows` names them."""
        rows = range(self.sequences_per_step) if rows is None else rows
        bound = self.conversations.sequences_per_step
        talk, text = range(rows.start, min(rows.stop, bound)), range(max(rows.start, bound), rows.stop)
        parts = []
        if talk:
            parts.append(self.conversations.batch(step, talk))
        if text:
            window_BT = torch.from_numpy(self._windows.batch(step, range(text.start - bound, text.stop - bound)))
            tokens_BT = window_BT[:, :-1]
            positions_BT = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT)
            parts.append(Batch(tokens_BT, window_BT[:, 1:], torch.ones_like(tokens_BT), positions_BT))
        return Batch(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
