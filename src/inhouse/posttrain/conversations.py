"""From conversations to batches: packing several conversations into one row.

Shapes: B rows of a batch, T tokens of a row.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from inhouse.common.files import read_json
from inhouse.environments.registry import check_name
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.posttrain.chat_template import Encoded
from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.train.step import Batch

__all__ = ["CONVERSATIONS", "PackedConversations", "read_conversations", "trained_on"]

CONVERSATIONS = "conversations.json"  # in a fine-tuned folder: what it was trained on
_SAY_IT = {  # files of a model folder, and where in them the environments stand
    CONVERSATIONS: ("generated",),
    "stage.json": ("settings", "sft", "generated"),
    "lineage.json": ("stages", "sft", "settings", "sft", "generated"),
}


def trained_on(folder: Path) -> list[str]:
    """The environments whose problems the model in `folder` was fine-tuned on; none where the folder does not say.

    A stage folder says it in its own files, an exported one in its lineage.
    """
    for file, keys in _SAY_IT.items():
        found = read_json(folder / file) if (folder / file).is_file() else {}
        for key in keys:
            found = found.get(key, {})
        if found:
            return [check_name(name) for name, count in found.items() if count]
    return []


class PackedConversations:
    """Rows of `sequence_length` tokens, each filled with whole conversations that cannot see one another.

    A conversation that is longer than a row is left out and counted in `num_too_long`: cut, it would teach answers
    that do not end. The rows are packed once (best fit, the longest first); each epoch takes all of them in a new
    order. `batch` is a pure function of (seed, step).
    """

    def __init__(
        self, conversations: Sequence[Encoded], seed: int, sequence_length: int, sequences_per_step: int, filler: int
    ) -> None:
        """`filler` is the token id that fills up a row; it is neither seen nor trained on."""
        self.seed, self.sequence_length, self.sequences_per_step = seed, sequence_length, sequences_per_step
        self.filler = filler
        examples = [_example(conversation) for conversation in conversations]
        fitting = [example for example in examples if example.shape[1] <= sequence_length]
        self.num_conversations, self.num_too_long = len(fitting), len(examples) - len(fitting)
        if not fitting:
            raise ValueError(
                f"none of {len(examples)} conversations fits into sequence_length = {sequence_length} tokens: "
                "raise it, or give shorter conversations"
            )
        order = np.random.default_rng((seed, 0)).permutation(len(fitting))
        self._rows = _best_fit([fitting[place] for place in order], sequence_length)

    def digest(self) -> str:
        """`sha256:…` of everything in the rows: two sets of conversations that differ anywhere differ here."""
        sha = sha256()
        for row in self._rows:
            sha.update(f"{[example.shape[1] for example in row]}".encode())
            for example in row:
                sha.update(example.tobytes())
        return f"sha256:{sha.hexdigest()}"

    @property
    def steps_per_epoch(self) -> float:
        return len(self._rows) / self.sequences_per_step

    def batch(self, step: int, rows: range | None = None) -> Batch:
        """The batch of one step, (B, T) each: ids, next ids (or NOT_TRAINED), conversation numbers, positions.

        Some of its rows only, where `rows` names them.
        """
        first = step * self.sequences_per_step
        chosen = [self._row(first + row) for row in (range(self.sequences_per_step) if rows is None else rows)]
        return Batch(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*chosen, strict=True)))

    def _row(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        epoch, place = divmod(number, len(self._rows))
        examples = self._rows[np.random.default_rng((self.seed, 1, epoch)).permutation(len(self._rows))[place]]
        tokens = np.full(self.sequence_length, self.filler)
        targets = np.full(self.sequence_length, NOT_TRAINED)
        documents = np.zeros(self.sequence_length, dtype=np.int64)  # 0 is the filler
        positions = np.arange(self.sequence_length)
        start = 0
        for document, example in enumerate(examples, 1):
            end = start + example.shape[1]
            tokens[start:end], targets[start:end] = example
            documents[start:end] = document
            positions[start:end] = np.arange(end - start)
            start = end
        positions[start:] -= start
        return tokens, targets, documents, positions


def _example(conversation: Encoded) -> np.ndarray:
    """(2, T): a conversation's ids and under each the next one where it is trained; nothing after the last trained."""
    ids = np.array(conversation.ids, dtype=np.int32)
    trained = np.array(conversation.trained)
    end = int(np.flatnonzero(trained)[-1])
    return np.stack((ids[:end], np.where(trained[1 : end + 1], ids[1 : end + 1], NOT_TRAINED)))


def _best_fit(examples: Sequence[np.ndarray], length: int) -> list[list[np.ndarray]]:
    """Put each example, the longest first, into the row with the least room that is enough for it."""
    rows: list[list[np.ndarray]] = []
    rooms: list[tuple[int, int]] = []  # (room left, row), sorted
    for example in sorted(examples, key=lambda each: each.shape[1], reverse=True):
        size = example.shape[1]
        place = bisect_left(rooms, (size, 0))
        if place < len(rooms):
            room, row = rooms.pop(place)
        else:
            room, row = length, len(rows)
            rows.append([])
        rows[row].append(example)
        insort(rooms, (room - size, row))
    return rows
