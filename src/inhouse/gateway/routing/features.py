"""A text as counts of its words, pairs of words, and runs of letters, hashed into a vector of a fixed length."""

import re
from zlib import crc32

import numpy as np

WORDS, LETTERS = 2**12, 2**12  # buckets of each
WIDTH = WORDS + LETTERS
LONGEST = 600  # characters of a text that are looked at: its beginning, and the last third of them from its end
_RUNS = (3, 4, 5)
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"[^\W\d_]+|0+|[^\w\s]")
_BYTE = np.uint64(8)  # bits
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the upper bits of a product are well mixed


def counts_of(text: str) -> np.ndarray:
    """(WIDTH,) int64: how often each bucket's words, or runs of letters, stand in the text; numbers are all alike."""
    text = _DIGIT.sub("0", " ".join(_shortened(text).lower().split()))
    return np.bincount(np.concatenate([_words(text), _letters(text)]), minlength=WIDTH)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - LONGEST // 3] + " " + text[-(LONGEST // 3) :]


def _words(text: str) -> np.ndarray:
    """The buckets of its words and pairs of words."""
    words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text)]
    hashes = [crc32(word) for word in words]
    hashes += map(crc32, words[1:], hashes[:-1])  # a hash goes on where that of the word before has ended
    return np.array(hashes, np.int64) % WORDS


def _letters(text: str) -> np.ndarray:
    """The buckets of its runs of letters, behind those of words. Each run is the next shorter one and a byte more."""
    data = np.frombuffer(f" {text} ".encode("utf-8", "surrogatepass"), np.uint8).astype(np.uint64)
    runs, found = data, []
    for length in range(2, _RUNS[-1] + 1):
        runs = (runs[:-1] << _BYTE) | data[length - 1 :]
        if length in _RUNS:
            found.append(runs | np.uint64(length << 8 * length))
    return ((np.concatenate(found) * _MULTIPLIER) >> np.uint64(52)).astype(np.int64) + WORDS
