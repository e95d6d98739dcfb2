"""Replay: rows of pretraining text beside the conversations of every batch, so that fine-tuning spoils no base.

Without it the preview's model forgets much of its text (bench/replay.py measures it). Rehearsal is an old remedy for
forgetting (Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995).
"""

from pathlib import Path

import torch

from inhouse.data.loader import WindowLoader
from inhouse.posttrain.rows.packing import PackedConversations
from inhouse.train.stage import as_batch
from inhouse.train.step import Batch


class Replay:
    """Steps of conversations and, below them, windows of the pretraining's shards; a pure function of the step.

    The windows come in an order of their own seed, so that a short fine-tuning does not repeat the first text that
    pretraining saw. Like conversations, documents of one row cannot see one another, and positions start anew in each.
    """

    def __init__(self, conversations: PackedConversations, shards: Path, rows: int) -> None:
        """`rows` of each step are windows of `shards`. Raises `ValueError` where these do not hold one."""
        self.conversations, self.rows = conversations, rows
        self.sequences_per_step = conversations.sequences_per_step + rows
        # counted by the window: a text that is shorter than a step's rows comes several times in it
        self._windows = WindowLoader(shards, conversations.seed + 1, conversations.sequence_length, 1)

    def batch(self, step: int, rows: range | None = None) -> Batch:
        """The batch of one step, (B, T) each; some of its rows only, where `rows` names them."""
        rows = range(self.sequences_per_step) if rows is None else rows
        bound = self.conversations.sequences_per_step
        talk, text = range(rows.start, min(rows.stop, bound)), range(max(rows.start, bound), rows.stop)
        parts = []
        if talk:
            parts.append(self.conversations.batch(step, talk))
        if text:
            before = step * self.rows - bound
            windows_BT = self._windows.batch(0, range(before + text.start, before + text.stop))
            parts.append(as_batch(windows_BT, "document", self.conversations.filler))
        columns = zip(*parts, strict=True)
        return Batch(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]
