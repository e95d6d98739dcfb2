"""What of a text decides on which side of the split it goes: its letters. Not its place, its spacing or its encoding.

A text is held out where the first 16 hexadecimal digits of the SHA-256 of its normal form, read as a number, are below
2^64 / `holdout_one_in`. So a text's side can be told from the text alone, on any machine, and near-copies share it.
Where too few texts are there to hold out whole ones (`split.route`), each of their blocks is judged like a text.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator
from zlib import crc32

LONGEST_BLOCK = 4096  # bytes of normal form; longer paragraphs are cut further
_SPACES = b" \t\n\r\v\f\x1c\x1d\x1e\x1f"
_OTHERS = tuple(c.encode() for c in "\x85\u1680\u2028\u2029\ufeff")  # what NFKC leaves of other spaces; byte order mark

Ends = Callable[[str], Iterator[int]]


def normal_form(text: str) -> bytes:
    """What two near-copies have in common: the text in Unicode's form NFKC, without any white space, as UTF-8."""
    if text.isascii():
        return text.encode().translate(None, _SPACES)
    form = unicodedata.normalize("NFKC", text).encode().translate(None, _SPACES)
    for space in _OTHERS:
        if space[:1] in form:  # a search for one byte is many times faster
            form = form.replace(space, b"")
    return form


def content_key(text: str) -> bytes:
    """16 bytes that near-copies share: the first half of the SHA-256 of the normal form."""
    return hashlib.sha256(normal_form(text)).digest()[:16]


def bar_of(one_in: int) -> int:
    """Keys are held out below this; a larger share holds out the same texts and more."""
    return 2**64 // one_in


def is_below(key: bytes, bar: int) -> bool:
    """Whether what has this key, or whole digest, is held out."""
    return int.from_bytes(key[:8]) < bar


def blocks(text: str) -> Iterator[str]:
    """The text's paragraphs, each with the blank lines behind it; joined again they are the text.

    A long paragraph is cut into its lines, a long line into sentences, a sentence without an end behind words that are
    chosen by their hash. Every bound depends on what stands beside it alone: an insertion changes no block but its own.
    """
    return _cut(text, 0)


def _cut(text: str, level: int) -> Iterator[str]:
    start, ends = 0, _ENDS[level]
    for end in (*ends(text), len(text)):
        block = text[start:end]
        if not block or (block.isspace() and start == 0 and end < len(text)):  # blank lines lead the first paragraph
            continue
        start = end
        if level + 1 == len(_ENDS) or len(normal_form(block)) <= LONGEST_BLOCK:
            yield block
        else:
            yield from _cut(block, level + 1)


def _ends_of(pattern: str) -> Ends:
    found = re.compile(pattern)
    return lambda text: (match.end() for match in found.finditer(text))


def _ends_of_some_words(text: str) -> Iterator[int]:
    start = 0
    for space in re.finditer(r"\s+", text):
        if crc32(text[start : space.start()].encode()) % 64 == 0:
            yield space.end()
        start = space.end()


_ENDS: tuple[Ends, ...] = (
    _ends_of(r"(?>\r\n|\n|\r)\s*[\r\n]"),
    _ends_of(r"\r\n|\n|\r"),
    _ends_of(r"[.!?][\"')\]»”’]*\s+|[。！？]"),
    _ends_of_some_words,
)
