"""What is held out, and which of identical texts is kept, follow from hashes alone."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest

from inhouse.data.documents import Document
from inhouse.data.split import DROP, HELDOUT, TRAIN, DocumentTable, route

Names = Callable[..., Iterator[str]]


def routed(*documents: tuple[str, str], one_in: int = 20) -> list[int]:
    """Where documents, each a (path, text), go."""
    table = DocumentTable(one_in)
    for path, text in documents:
        table.add(Document(text, 0, path))
    return route(table.rows()).tolist()


def test_the_path_decides_what_is_held_out(is_held_out: Callable[[str], bool]) -> None:
    paths = [f"{i}.txt" for i in range(400)]
    routes = routed(*((path, f"text of {path}") for path in paths))
    assert routes == [HELDOUT if is_held_out(path) else TRAIN for path in paths]
    assert 5 < routes.count(HELDOUT) < 40
    assert routes == routed(*((path, f"other text of {path}") for path in paths))


def test_the_share_that_is_held_out_is_as_asked_for() -> None:
    documents = [(f"{i}.txt", f"text {i}") for i in range(1000)]
    assert 420 < routed(*documents, one_in=2).count(HELDOUT) < 580
    assert set(routed(*documents, one_in=2)) == {TRAIN, HELDOUT}


def test_of_identical_texts_the_first_held_out_one_is_kept(names: Names) -> None:
    held, train = list(islice(names(True), 3)), list(islice(names(False), 3))
    documents = [(train[0], "same"), (held[0], "same"), (train[1], "same"), (held[1], "same"), (train[2], "alone")]
    assert routed(*documents) == [DROP, HELDOUT, DROP, DROP, TRAIN]
    same = [(path, "same") for path in train]
    assert routed(*same, (held[0], "alone")) == [TRAIN, DROP, DROP, HELDOUT]


def test_texts_are_the_same_by_their_whole_digest(names: Names) -> None:
    rows = DocumentTable(20)
    for path in (*islice(names(False), 3), next(names(True))):
        rows.add(Document(path, 0, path))
    table = rows.rows().copy()
    table["high"][:3], table["low"][:3] = 7, (1, 2, 2)
    assert route(table).tolist() == [TRAIN, TRAIN, DROP, HELDOUT]
    table["high"][:3], table["low"][:3] = (1, 2, 2), 7
    assert route(table).tolist() == [TRAIN, TRAIN, DROP, HELDOUT]


@pytest.mark.parametrize("is_held", [False, True])
def test_a_corpus_with_only_one_side_holds_out_one_small_file(names: Names, is_held: bool) -> None:
    small, other, large = islice(names(is_held), 3)
    documents = [(small, "small"), (other, "other"), (large, "l" * 1000), (small, "more of small")]
    routes = routed(*documents)
    assert routes[2] == TRAIN
    assert routes in ([HELDOUT, TRAIN, TRAIN, HELDOUT], [TRAIN, HELDOUT, TRAIN, TRAIN])
    assert routes == routed(*documents)


def test_one_file_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="the whole text is one file"):
        routed(("novel.txt", "first part"), ("novel.txt@1", "second part"))


def test_a_row_takes_29_bytes_and_holds_the_size_in_bytes() -> None:
    table = DocumentTable(20)
    table.add(Document("é" * 10, 0, "x"))
    rows: np.ndarray = table.rows()
    assert (rows.itemsize, rows["size"].tolist()) == (29, [20])
