"""Separators between texts that a file already carries, as `<|endoftext|>`: counted, and split at where asked."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from inhouse.data.documents import Document, text_path

KNOWN = (
    "<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>", "<|endofdocument|>", "<|eot_id|>", "<|eos|>", "<|im_end|>",
    "</s>", "<eos>", "<EOS>", "<end_of_turn>",
)  # fmt: skip
# one first character for all: only behind it is looked for the rest
ANY_SEPARATOR = re.compile(f"<(?:{'|'.join(re.escape(known.removeprefix('<')) for known in KNOWN)})")


def separators_in(text: str) -> Counter[str]:
    """The known separators that stand in a text, and how often."""
    return Counter(ANY_SEPARATOR.findall(text))


def split_texts(documents: Iterable[Document], separators: tuple[str, ...], longest: int) -> Iterator[Document]:
    """What stands between separators as texts of their own: `FILE`, `FILE#1`, `FILE#2` …; without any, as they came.

    A text that the reader cut is put together again, up to `longest` characters, and then cut at its separators.
    """
    if not separators:
        yield from documents
        return
    pattern = re.compile("|".join(map(re.escape, sorted(separators, key=len, reverse=True))))
    before = ""

    def text(document: Document) -> str:
        nonlocal before
        before = text_path(document.path, before)
        return before

    for path, pieces in groupby(documents, text):
        yield from _split_one(path, pieces, pattern, longest)


def _split_one(path: str, pieces: Iterable[Document], pattern: re.Pattern[str], longest: int) -> Iterator[Document]:
    record = number = source = 0
    rest = ""

    def named(text: str) -> Iterator[Document]:
        if text and not text.isspace():
            yield Document(text, source, path + (f"#{record}" if record else "") + (f"@{number}" if number else ""))

    for piece in pieces:
        source = piece.source
        first, *others = pattern.split(piece.text)
        if len(rest) + len(first) > longest:
            yield from named(rest)
            number, rest = number + bool(rest), ""
        rest += first
        for other in others:
            yield from named(rest.strip("\r\n"))
            record, number, rest = record + 1, 0, other
        if others:
            rest = rest.lstrip("\r\n")
    yield from named(rest)
