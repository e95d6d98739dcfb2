"""Odd files that people have, made by code, and what must come of each: documents, or a name with a reason.

A case is a folder; paths are relative to it.
"""

from itertools import chain

from tests.data.odd import archives, records, texts
from tests.data.odd.making import Odd

GROUPS = (
    texts.encodings,
    texts.compressions,
    texts.layouts_by_content,
    texts.places,
    archives.archives,
    archives.names,
    archives.damages,
    archives.bombs,
    records.records,
    records.tables,
    records.markup,
)


def cases() -> list[Odd]:
    made = list(chain.from_iterable(group() for group in GROUPS))
    assert len({case.name for case in made}) == len(made)
    return made
