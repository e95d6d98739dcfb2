"""A text as counts of its words, pairs of words, and runs of letters, hashed into a vector of a fixed length."""

import re
from itertools import pairwise
from zlib import crc32

import numpy as np

WORDS, LETTERS = 2**12, 2**12  # buckets of each
WIDTH = WORDS + LETTERS
LONGEST = 600  # characters of a text that are looked at: its beginning, and the last third of them from its end
_RUNS = (3, 4, 5)
_WORD = re.compile(r"[^\W\d_]+|0+|[^\w\s]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: the upper bits of a product are well mixed


def counts_of(text: str) -> np.ndarray:
    """(WIDTH,) float32: how often each bucket's words, or runs of letters, stand in the text; numbers are all alike."""
    text = re.sub(r"\d", "0", re.sub(r"\s+", " ", _shortened(text)).lower())
    return np.concatenate([_words(text), _letters(text)])


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - LONGEST // 3] + " " + text[-(LONGEST // 3) :]


def _words(text: str) -> np.ndarray:
    words = [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text)]
    hashes = [crc32(word) % WORDS for word in words]
    hashes += [crc32(second, crc32(first)) % WORDS for first, second in pairwise(words)]
    return np.bincount(hashes, minlength=WORDS).astype(np.float32) if hashes else np.zeros(WORDS, np.float32)


def _letters(text: str) -> np.ndarray:
    data = np.frombuffer(f" {text} ".encode("utf-8", "surrogatepass"), np.uint8).astype(np.uint64)
    counts = np.zeros(LETTERS, np.float32)
    for length in _RUNS:
        size = len(data) - length + 1
        if size <= 0:
            continue
        runs = np.full(size, length, np.uint64)
        for place in range(length):
            runs = (runs << np.uint64(8)) | data[place : place + size]
        buckets = ((runs * _MULTIPLIER) >> np.uint64(52)).astype(np.int64)
        counts += np.bincount(buckets, minlength=LETTERS)
    return counts
