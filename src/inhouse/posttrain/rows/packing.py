"""Conversations as rows of one length, several in a row, read from files: memory does not grow with their number.

Shapes: B rows of a batch, T tokens of a row.
"""

import hashlib
from bisect import bisect_left, insort
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from inhouse.data.loader import permute
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.posttrain.rows.encoded import EncodedConversations
from inhouse.posttrain.step_count import LEAST_ROWS
from inhouse.train.step import Batch

_ROUNDS = 6


class PackedConversations:
    """Rows of `sequence_length` tokens, each filled with whole conversations that cannot see one another.

    The rows are packed once (best fit, the longest first); each epoch takes all of them in a new order, a keyed
    permutation that takes no memory. `batch` is a pure function of (seed, step). Kept in memory are some 30 bytes a
    conversation, whatever its length.
    """

    def __init__(
        self, folder: Path, seed: int, sequence_length: int, filler: int, repeats: np.ndarray | None = None
    ) -> None:
        """`folder` holds `EncodedConversations`; `filler` the id that fills up a row, neither seen nor trained on.

        `repeats` says how often each conversation comes in an epoch; None: once.
        """
        self.seed, self.sequence_length, self.filler, self.sequences_per_step = seed, sequence_length, filler, 1
        self.encoded = EncodedConversations(folder)
        lengths = self.encoded.lengths.astype(np.int64)
        entries = np.arange(len(lengths), dtype=np.int32)
        order = np.random.default_rng((seed, 0)).permutation(entries if repeats is None else entries.repeat(repeats))
        # a conversation's last token is a target alone, so a row holds one token fewer of each
        sizes = lengths[order] - 1
        room = min(sequence_length, max(int(sizes.max()), int(sizes.sum()) // min(LEAST_ROWS, len(sizes))))
        self._row_starts, self._members = best_fit(order, sizes, room)

    @property
    def num_rows(self) -> int:
        return len(self._row_starts) - 1

    def digest(self) -> str:
        """`sha256:…` of everything that is trained on: two sets of conversations that differ anywhere differ here."""
        sha = hashlib.sha256(self.encoded.digest.encode())
        sha.update(self._members.tobytes())
        return f"sha256:{sha.hexdigest()}"

    def batch(self, step: int, rows: range | None = None) -> Batch:
        """The batch of one step, (B, T) each: ids, next ids (or NOT_TRAINED), conversation numbers, positions.

        Some of its rows only, where `rows` names them.
        """
        rows = range(self.sequences_per_step) if rows is None else rows
        chosen = [self._row(step * self.sequences_per_step + row) for row in rows]
        return Batch(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*chosen, strict=True)))

    def _row(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        epoch, place = divmod(number, self.num_rows)
        keys = np.frombuffer(hashlib.sha512(f"{self.seed}/rows/{epoch}".encode()).digest(), dtype="<u8")
        row = int(permute(np.array([place], dtype=np.uint64), self.num_rows, keys[:_ROUNDS])[0])
        tokens = np.full(self.sequence_length, self.filler)
        targets = np.full(self.sequence_length, NOT_TRAINED)
        documents = np.zeros(self.sequence_length, dtype=np.int64)  # 0 is the filler
        positions = np.arange(self.sequence_length)
        start = 0
        members = self._members[self._row_starts[row] : self._row_starts[row + 1]]
        for document, member in enumerate(members.tolist(), 1):
            ids, is_trained = self.encoded.read(member)
            end = start + len(ids) - 1
            tokens[start:end] = ids[:-1]
            targets[start:end] = np.where(is_trained[1:], ids[1:].astype(np.int64), NOT_TRAINED)
            documents[start:end] = document
            positions[start:end] = np.arange(end - start)
            start = end
        positions[start:] -= start
        return tokens, targets, documents, positions


class Steps(Protocol):
    """What gives the batches of steps, of so many rows each: conversations alone, or with replayed text."""

    sequences_per_step: int

    def batch(self, step: int, rows: range | None = None) -> Batch: ...


def filled_batch(steps: Steps, step: int, rows: range) -> Batch:
    """Those `rows` of a step's batch; rows that it does not have teach nothing, so that all processes get as many."""
    within = range(min(rows.start, steps.sequences_per_step - 1), min(rows.stop, steps.sequences_per_step))
    batch = steps.batch(step, within)
    if within == rows:
        return batch
    missing = len(range(max(rows.start, within.stop), rows.stop))
    filler = batch._replace(targets_BT=torch.full_like(batch.targets_BT, NOT_TRAINED))
    kept = len(within) if within.start == rows.start else 0
    columns = ((x, y) for x, y in zip(batch, filler, strict=True) if x is not None and y is not None)
    return Batch(*(torch.cat((x[:kept], y[:1].expand(missing, -1))) for x, y in columns))


def best_fit(order: np.ndarray, sizes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Put each conversation, the longest first, into the row with the least room that is enough for it.

    Returns where each row's members start, and the members of all rows one after the other.
    """
    longest_first = np.argsort(-sizes, kind="stable")
    rows_with: dict[int, list[int]] = {}  # room left -> rows
    rooms: list[int] = []  # those that some row has, sorted
    row_of = np.empty(len(order), dtype=np.int32)
    num_rows = 0
    for entry, size in zip(longest_first.tolist(), sizes[longest_first].tolist(), strict=True):
        place = bisect_left(rooms, size)
        if place < len(rooms):
            room = rooms[place]
            row = rows_with[room].pop()
            if not rows_with[room]:
                del rooms[place]
        else:
            room, row = length, num_rows
            num_rows += 1
        row_of[entry] = row
        left = rows_with.setdefault(room - size, [])
        if not left:
            insort(rooms, room - size)
        left.append(row)
    by_row = np.argsort(row_of, kind="stable")
    starts = np.concatenate(([0], np.cumsum(np.bincount(row_of, minlength=num_rows))))
    return starts, order[by_row]
