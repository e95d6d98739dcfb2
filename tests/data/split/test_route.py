"""What is held out, and which of equal texts is kept, follow from hashes alone."""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.documents import Document
from inhouse.data.settings import DataSettings
from inhouse.data.split.content import content_key, held_keys, is_held_out
from inhouse.data.split.route import BLOCKS, DROP, FEW_TEXTS, HELDOUT, TRAIN, DocumentTable, near_copies, route

Names = Callable[..., Iterator[str]]
MANY = [(f"{i}.txt", f"This is text {i}.") for i in range(FEW_TEXTS)]


def table(*documents: tuple[str, str], **settings: Any) -> np.ndarray:
    """The rows of documents, each a (path, text)."""
    collected = DocumentTable(DataSettings(**settings))
    for path, text in documents:
        collected.add(Document(text, 0, path))
    return collected.rows()


def routed(*documents: tuple[str, str], **settings: Any) -> list[int]:
    """Where documents, each a (path, text), go."""
    return route(table(*documents, **settings), DataSettings(**settings)).tolist()


def by_path(*documents: tuple[str, str], **settings: Any) -> list[int]:
    return routed(*documents, holdout_by="path", **settings)


def side(text: str, one_in: int = 20) -> int:
    return HELDOUT if is_held_out(content_key(text), held_keys(one_in)) else TRAIN


def test_the_content_decides_what_is_held_out() -> None:
    routes = routed(*MANY)
    assert routes == [side(text) for _, text in MANY]
    assert routes == routed(*((f"renamed/{path}", text) for path, text in MANY))
    assert routes == routed(*MANY[::-1])[::-1]


@given(st.lists(st.integers(0, 10_000), unique=True, max_size=20))
def test_documents_that_come_move_none(numbers: list[int]) -> None:
    others = [(f"new{i}.txt", f"Another text, {i}.") for i in numbers]
    assert routed(*others, *MANY)[len(others) :] == routed(*MANY)


@pytest.mark.parametrize("one_in", [2, 10])
def test_the_share_that_is_held_out_is_as_asked_for(one_in: int) -> None:
    documents = [(f"{i}.txt", f"text {i}") for i in range(2000)]
    share = routed(*documents, holdout_one_in=one_in).count(HELDOUT) / 2000
    assert 0.8 < share * one_in < 1.2


def test_of_near_copies_the_first_is_kept() -> None:
    documents = [("a", "so\nit is"), ("b", "so it is"), ("c", "so it is \r\n"), ("d", "so\nit is")]
    rows = table(*MANY, *documents)
    routes = route(rows, DataSettings())
    assert routes[-4:].tolist() == [side("so it is"), DROP, DROP, DROP]
    assert near_copies(rows, routes)[-4:].tolist() == [False, True, True, False]
    assert near_copies(rows, routes).sum() == 2


def test_few_texts_go_by_blocks() -> None:
    assert set(routed(*MANY[1:])) == {BLOCKS}
    assert BLOCKS not in routed(*MANY)
    assert set(routed(*MANY[1:], ("copy", MANY[1][1]))) == {BLOCKS, DROP}, "copies are no texts of their own"
    pieces = [(f"long@{i}" if i else "long", f"Piece {i}.") for i in range(FEW_TEXTS)]
    assert set(routed(*pieces)) == {BLOCKS}, "pieces are no texts of their own"


def test_a_text_too_large_for_the_share_goes_by_blocks_and_moves_no_other() -> None:
    routes = routed(*MANY, ("large", "x" * 1000))
    assert routes == [*routed(*MANY), BLOCKS]
    assert BLOCKS not in routed(*MANY, ("large", "x" * 100))


def test_a_long_text_goes_by_blocks_however_it_was_cut() -> None:
    many = [(f"{i}", f"This is text {i}." * 9) for i in range(4000)]
    pieces = [(f"x@{i}" if i else "x", f"{i}" * 40 + "\r\n") for i in range(3)]
    whole = [("y", "".join(text for _, text in pieces).replace("\r", ""))]
    for documents in (pieces, whole):
        assert set(routed(*many, *documents, max_document_bytes=100)[4000:]) == {BLOCKS}
        assert set(routed(*many, *documents, max_document_bytes=120)[4000:]) == {side(whole[0][1])}


@given(st.text(st.sampled_from("ab \n"), min_size=1), st.integers(1, 9))
def test_near_copies_share_a_side_however_they_were_cut(text: str, size: int) -> None:
    spaced = text.replace("a", "a\r\n ")
    pieces = [(f"x@{i}" if i else "x", spaced[i * size : (i + 1) * size]) for i in range(-(-len(spaced) // size))]
    rows = table(*pieces, ("y", text), *MANY)
    assert set(rows["held"][: len(pieces)]) == {rows["held"][len(pieces)]}
    assert set(rows["letters"][: len(pieces)]) == {rows["letters"][len(pieces)]}


def test_pieces_follow_the_text_that_they_are_of() -> None:
    first = next(f"Begin {i}." for i in count() if side(f"Begin {i}.") == HELDOUT and side(f"Begin {i}.End.") == TRAIN)
    many = [(f"{i}", f"This is text {i}." * 9) for i in range(FEW_TEXTS)]
    assert routed(*many, ("x", first), ("x@1", "End."))[-2:] == [TRAIN, TRAIN]
    assert routed(*many, ("x", first))[-1] == HELDOUT


def test_files_that_are_called_like_pieces_are_texts_of_their_own() -> None:
    names = ("x", "y@1", "x@1", "x#1@1", "x#1")
    assert table(*((name, f"of {name}") for name in names))["is_later"].tolist() == [False] * 5
    assert table(("x", "one"), ("x@1", "two"), ("x@3", "three"))["is_later"].tolist() == [False, True, True]


def test_by_path_the_path_decides(is_held_out: Callable[[str], bool]) -> None:
    paths = [f"{i}.txt" for i in range(400)]
    routes = by_path(*((path, f"text of {path}") for path in paths))
    assert routes == [HELDOUT if is_held_out(path) else TRAIN for path in paths]
    assert 5 < routes.count(HELDOUT) < 40
    assert routes == by_path(*((path, f"other text of {path}") for path in paths))


def test_by_path_pieces_stay_with_their_file(is_held_out: Callable[[str], bool], names: Names) -> None:
    for name in (next(names(True)), next(names(False))):
        where = HELDOUT if is_held_out(name) else TRAIN
        others = [(other, other) for other in (*islice(names(True), 1, 3), *islice(names(False), 1, 3))]
        assert by_path(*others, (name, "1"), (f"{name}@1", "2"), (f"{name}@2", "3"))[-3:] == [where] * 3


def test_by_path_copies_of_one_file_are_as_that_file_alone(names: Names) -> None:
    """Nothing else is left of the others, so it goes by blocks."""
    train = list(islice(names(False), 2))
    assert by_path((train[0], "same"), (train[1], "same")) == [*by_path((train[0], "same")), DROP]


def test_by_path_of_identical_texts_the_first_held_out_one_is_kept(names: Names) -> None:
    held, train = list(islice(names(True), 3)), list(islice(names(False), 3))
    documents = [(train[0], "same"), (held[0], "same"), (train[1], "same"), (held[1], "same"), (train[2], "alone")]
    assert by_path(*documents) == [DROP, HELDOUT, DROP, DROP, TRAIN]
    same = [(path, "same") for path in train]
    assert by_path(*same, (held[0], "alone")) == [TRAIN, DROP, DROP, HELDOUT]
    assert by_path((train[0], "near"), (train[1], "near\n"), (held[0], "alone")) == [TRAIN, TRAIN, HELDOUT]


def test_texts_are_the_same_by_their_whole_digest(names: Names) -> None:
    settings = {"holdout_by": "path"}
    rows = table(*((path, path) for path in (*islice(names(False), 3), next(names(True)))), **settings).copy()
    rows["high"][:3], rows["low"][:3] = 7, (1, 2, 2)
    assert route(rows, DataSettings(**settings)).tolist() == [TRAIN, TRAIN, DROP, HELDOUT]
    rows["high"][:3], rows["low"][:3] = (1, 2, 2), 7
    assert route(rows, DataSettings(**settings)).tolist() == [TRAIN, TRAIN, DROP, HELDOUT]


@pytest.mark.parametrize("is_held", [False, True])
def test_by_path_a_corpus_with_only_one_side_holds_out_one_small_file(names: Names, is_held: bool) -> None:
    small, other, large = islice(names(is_held), 3)
    documents = [(small, "small"), (f"{small}@1", "more of small"), (other, "other"), (large, "l" * 1000)]
    routes = by_path(*documents)
    assert routes in ([HELDOUT, HELDOUT, TRAIN, TRAIN], [TRAIN, TRAIN, HELDOUT, TRAIN])
    assert routes == by_path(*documents)


def test_by_path_one_file_goes_by_blocks() -> None:
    assert by_path(("novel.txt", "first part"), ("novel.txt@1", "second part")) == [BLOCKS, BLOCKS]


def test_a_row_takes_38_bytes_and_holds_the_size_in_bytes() -> None:
    rows = table(("x", "é" * 10))
    assert (rows.itemsize, rows["size"].tolist()) == (38, [20])
