"""Batches as a pure function of (seed, step, slot): the loader has no state, so a resumed run cannot drift.

Shapes: B sequences a step, T tokens a sequence.
"""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from inhouse.common.files import read_json, write_json
from inhouse.data.shards import Shards

SOURCES = "sources.json"  # beside the index of shards: the number of each one's source
_ROUNDS = 6


class WindowLoader:
    """Windows of T + 1 tokens (inputs and, one later, targets) over the shards' tokens laid end to end.

    Each epoch starts at a new random offset, so windows cut the text elsewhere, and visits its windows in a new order:
    a keyed permutation computed per window (Feistel network, cycle walking), which takes no memory whatever the corpus.
    Every window of an epoch comes exactly once; a step may span the end of one epoch and the start of the next.

    Raises `ValueError` where the corpus does not fill one step.
    """

    def __init__(
        self,
        shards: Path,
        seed: int,
        sequence_length: int,
        sequences_per_step: int,
        only: Collection[int] | None = None,
    ) -> None:
        """With `only`, of some of the shards, by number."""
        self.seed, self.sequence_length, self.sequences_per_step = seed, sequence_length, sequences_per_step
        self._shards = Shards(shards, only)
        # the offset may be up to T - 1, and the last target lies one token behind the last input
        self.windows_per_epoch = max(0, (self._shards.num_tokens - sequence_length) // sequence_length)
        if self.windows_per_epoch < sequences_per_step:
            raise ValueError(
                f"{shards} holds {self._shards.num_tokens:,} tokens, which does not fill one step of "
                f"{sequences_per_step} sequences of {sequence_length} tokens: add text, or lower the tokens per step"
            )

    def batch(self, step: int, rows: range | None = None) -> np.ndarray:
        """The (B, T + 1) int64 ids of a step; of some of its sequences only, where `rows` names them."""
        rows = range(self.sequences_per_step) if rows is None else rows
        first = step * self.sequences_per_step
        return self.windows(np.arange(first + rows.start, first + rows.stop, dtype=np.uint64))

    def windows(self, indices: np.ndarray) -> np.ndarray:
        """The ids (len(indices), T + 1) of windows, counted since the start of training."""
        windows = np.empty((len(indices), self.sequence_length + 1), dtype=np.int64)
        for row, start in zip(windows, self.window_starts(indices).tolist(), strict=True):
            self._shards.read_into(start, row)
        return windows

    def window_starts(self, indices: np.ndarray) -> np.ndarray:
        """Where the windows begin; index = step * B + slot counts windows since the start of training."""
        count = np.uint64(self.windows_per_epoch)
        starts = np.empty_like(indices)
        for epoch in np.unique(indices // count).tolist():
            # eight uint64, the same on every machine
            keys = np.frombuffer(hashlib.sha512(f"{self.seed}/{epoch}".encode()).digest(), dtype="<u8")
            here = indices // count == epoch
            windows = permute(indices[here] % count, self.windows_per_epoch, keys[:_ROUNDS])
            starts[here] = windows * np.uint64(self.sequence_length) + keys[_ROUNDS] % np.uint64(self.sequence_length)
        return starts


class MixtureLoader:
    """As `WindowLoader`, from sources that each have a `WindowLoader` of their own.

    The sequences since the start of training go round, `shares[s]` in every sum(shares) from source s, spread evenly;
    a source of share 0 is left out. A source that is small for its share is seen in more epochs than others.
    Raises `ValueError` where the shards do not say which source they are of, or those of one do not fill a sequence.
    """

    def __init__(
        self, shards: Path, seed: int, sequence_length: int, sequences_per_step: int, shares: Sequence[int]
    ) -> None:
        self.sequence_length, self.sequences_per_step, self.shares = sequence_length, sequences_per_step, shares
        if not (shards / SOURCES).is_file():
            raise ValueError(f"{shards} does not say which sources its shards are of; run again with --anew tokenizer")
        numbers = read_json(shards / SOURCES)
        self._loaders = {
            source: WindowLoader(shards, seed, sequence_length, 1, {n for n, of in enumerate(numbers) if of == source})
            for source, share in enumerate(shares)
            if share
        }
        self._round = np.array(_spread(shares))
        # how many of the same source a round has before each place
        self._before = np.array([(self._round[:place] == source).sum() for place, source in enumerate(self._round)])

    def batch(self, step: int, rows: range | None = None) -> np.ndarray:
        """The (B, T + 1) int64 ids of a step; of some of its sequences only, where `rows` names them."""
        rows = range(self.sequences_per_step) if rows is None else rows
        first = step * self.sequences_per_step
        turns, places = np.divmod(np.arange(first + rows.start, first + rows.stop), len(self._round))
        batch = np.empty((len(rows), self.sequence_length + 1), dtype=np.int64)
        for source, loader in self._loaders.items():
            here = self._round[places] == source
            indices = turns[here] * self.shares[source] + self._before[places[here]]
            batch[here] = loader.windows(indices.astype(np.uint64))
        return batch


def write_sources(shards: Path, numbers: Sequence[int]) -> None:
    """Beside finished shards, the number of the source of each; a shard has one."""
    write_json(shards / SOURCES, list(numbers))


def permute(values: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """A bijection of 0..size-1 chosen by `keys` (uint64, one a round), applied to uint64 `values`.

    A Feistel network permutes 0..4^h - 1, the smallest such range that holds `size`; what leaves 0..size-1 is
    permuted again until it is back inside (cycle walking; Black and Rogaway, 2002): under four turns on average.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    result = _feistel(values, half, mask, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half, mask, keys)
    return result


def _feistel(values: np.ndarray, half: np.uint64, mask: np.uint64, keys: np.ndarray) -> np.ndarray:
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return left << half | right


def _mix(x: np.ndarray) -> np.ndarray:
    """Spread every bit over all 64 (the finalizer of splitmix64; Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _spread(shares: Sequence[int]) -> list[int]:
    """A round of sources, each as often as its share, as far from itself as can be (smooth weighted round-robin)."""
    found, waiting = [], [0] * len(shares)
    for _ in range(sum(shares)):
        waiting = [wait + share for wait, share in zip(waiting, shares, strict=True)]
        source = max(range(len(shares)), key=lambda each: waiting[each])
        waiting[source] -= sum(shares)
        found.append(source)
    return found
