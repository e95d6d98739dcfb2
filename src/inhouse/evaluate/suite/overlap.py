"""Which items the training text touches: those that share 13 tokens in a row with the shards of the model's run.

Thirteen as Brown et al. (2020, appendix C) have it, but tokens where they take words: shards hold tokens, and are read
as they are; words of every shard would first have to be made. A token of a small vocabulary is shorter than a word, so
that rather too many items are called touched than too few. Each text of an item's document is looked for by itself,
its whole length; of what is found the share of tokens is kept (Touvron et al. 2023, appendix A.6), for other bounds.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inhouse.common.lineage import lineage
from inhouse.common.model_paths import find_run
from inhouse.common.progress import Progress
from inhouse.data.shards import INDEX, Shards
from inhouse.data.tokenizer import Tokenizer

LENGTH = 13  # tokens
_CHUNK = 1 << 20  # tokens of a shard at a time
_BASE = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 24


class Overlap(NamedTuple):
    """The share of an item's tokens that stand in a shared run of 13; None where no text of it has as many."""

    share: float | None


class Trained(NamedTuple):
    """A tokenizer and the training shards that it made."""

    tokenizer: Tokenizer
    shards: Shards


def training_shards(model: Path) -> list[Trained]:
    """The shards that the model at `model` was trained on, and those of the runs that its base is from.

    Raises ValueError where none are there: the model is no run's, or its shards are gone.
    """
    found, seen, waiting = [], set[Path](), [model]
    while waiting:
        run = find_run(waiting.pop())
        if run is None or run.resolve() in seen:
            continue
        seen.add(run.resolve())
        if (run / "tokenizer" / "shards" / "train" / INDEX).is_file():
            found.append(Trained(Tokenizer.load(run / "tokenizer"), Shards(run / "tokenizer" / "shards" / "train")))
        waiting += [Path(base["path"]) for base in lineage(run).get("base", [])]
    if not found:
        raise ValueError(
            f"{model}: no training shards in its lineage, so nobody can tell which items it has seen; leave --overlap "
            "out, or give the model of a run whose tokenizer stage is there"
        )
    return found


def overlaps(documents: Sequence[Mapping[str, Any]], trained: Sequence[Trained]) -> list[Overlap]:
    """For each document the largest overlap with any of these."""
    best: list[Overlap] = [Overlap(None)] * len(documents)
    for tokenizer, shards in trained:
        for number, found in enumerate(_overlaps(documents, tokenizer, shards)):
            if found.share is not None and found.share >= (best[number].share or 0.0):
                best[number] = found
    return best


def _overlaps(documents: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, shards: Shards) -> list[Overlap]:
    texts = [list(texts_in(document)) for document in documents]
    encoded = iter(tokenizer.encode_batch([text for own in texts for text in own]))
    hashes = [[n_gram_hashes(np.array(next(encoded), dtype=np.uint64)) for _ in own] for own in texts]
    own = [each for grams in hashes for each in grams]
    wanted = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *own]))
    seen = _found_in(shards, wanted)
    return [_overlap(grams, seen) for grams in hashes]


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(part)


def n_gram_hashes(ids_N: np.ndarray) -> np.ndarray:
    """Of every 13 ids in a row a number of 64 bits: (N - 12), uint64. Of 10^9 different ones two are alike by chance
    once in forty."""
    num = len(ids_N) - LENGTH + 1
    if num < 1:
        return np.empty(0, dtype=np.uint64)
    mixed_N = _mixed(ids_N.astype(np.uint64))
    total = np.zeros(num, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(LENGTH):
            total = total * _BASE + mixed_N[place : place + num]
    return _mixed(total)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on all of the argument (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = (x + _BASE) & np.uint64(0xFFFFFFFFFFFFFFFF)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(x ^ (x >> np.uint64(31)))


def _found_in(shards: Shards, wanted: np.ndarray) -> np.ndarray:
    """Those of `wanted`, in order, that stand in the shards. A table of their first bits rules out most others."""
    shift = np.uint64(64 - _TABLE_BITS)
    may_be = np.zeros(1 << _TABLE_BITS, dtype=bool)
    may_be[wanted >> shift] = True
    is_seen = np.zeros(len(wanted), dtype=bool)
    if not len(wanted):
        return wanted
    with Progress("overlap with the training text", shards.num_tokens, "tokens") as progress:
        for start in range(0, shards.num_tokens, _CHUNK):
            size = min(_CHUNK, shards.num_tokens - start)
            ids = np.empty(min(size + LENGTH - 1, shards.num_tokens - start), dtype=np.uint64)
            shards.read_into(start, ids)
            hashes = n_gram_hashes(ids)
            hashes = hashes[may_be[hashes >> shift]]
            places, is_there = _places_in(wanted, hashes)
            is_seen[places[is_there]] = True
            progress.update(size)
    return wanted[is_seen]


def _places_in(ordered: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each value stands, or would, in what is in order and not empty; and whether it does."""
    places = np.searchsorted(ordered, values).clip(max=len(ordered) - 1)
    return places, ordered[places] == values


def _overlap(grams: Sequence[np.ndarray], seen: np.ndarray) -> Overlap:
    """`grams`: of each text of an item, the hashes at every place."""
    num_tokens = sum(len(each) + LENGTH - 1 for each in grams if len(each))
    if not num_tokens:
        return Overlap(None)
    covered = 0
    for hashes in grams if len(seen) else ():
        starts = np.flatnonzero(_places_in(seen, hashes)[1])
        covered += len(np.unique(starts[:, None] + np.arange(LENGTH)))
    return Overlap(covered / num_tokens)
