"""Separators that a text carries are counted, and split at where asked, whatever the reader cut."""

from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.documents import Document
from inhouse.data.separators import separators_in, split_texts

END = "<|endoftext|>"


def split(*pieces: str, separators: tuple[str, ...] = (END,), longest: int = 1000) -> list[Document]:
    documents = [Document(piece, 3, f"x.txt@{i}" if i else "x.txt") for i, piece in enumerate(pieces)]
    return list(split_texts(documents, separators, longest))


def test_known_separators_are_counted() -> None:
    assert separators_in(f"a{END}b{END}</s>") == {END: 2, "</s>": 1}
    assert separators_in("a < b | c > d") == {} == separators_in("")
    assert separators_in("<|unknown|>") == {}


def test_texts_between_separators_are_documents_of_their_own() -> None:
    assert split(f"one\n{END}\ntwo{END}three\n") == [
        Document("one", 3, "x.txt"), Document("two", 3, "x.txt#1"), Document("three\n", 3, "x.txt#2"),
    ]  # fmt: skip
    assert [d.text for d in split(f"{END}one{END}{END}\n{END}two{END}\n")] == ["one", "two"]


def test_the_longer_of_two_separators_wins() -> None:
    assert [d.text for d in split("a---b--c", separators=("--", "---"))] == ["a", "b", "c"]


def test_a_text_that_was_cut_is_put_together_before_it_is_split() -> None:
    assert split(f"one{END}tw", "o", f"o{END}three") == [
        Document("one", 3, "x.txt"), Document("twoo", 3, "x.txt#1"), Document("three", 3, "x.txt#2"),
    ]  # fmt: skip


def test_what_is_too_long_between_separators_stays_cut() -> None:
    found = split("a" * 9, "b" * 9, f"c{END}d", longest=10)
    assert [(d.text, d.path) for d in found] == [
        ("a" * 9, "x.txt"), ("b" * 9 + "c", "x.txt@1"), ("d", "x.txt#1"),
    ]  # fmt: skip


@given(st.lists(st.text(st.sampled_from("ab\n "), max_size=20), max_size=6))
def test_texts_without_separators_are_left_alone(texts: list[str]) -> None:
    documents = [Document(text, 0, f"{i}.txt") for i, text in enumerate(texts) if text.strip()]
    assert list(split_texts(documents, (END,), 1000)) == documents
    assert list(split_texts(documents, (), 1000)) == documents


@given(st.lists(st.text(st.sampled_from("abc"), min_size=1), min_size=1), st.integers(1, 30))
def test_nothing_is_lost_wherever_the_reader_cut(texts: list[str], size: int) -> None:
    # a separator that the reader cut in two is none: it cuts behind lines
    whole = "\n".join(f"{text}\n{END}" for text in texts)
    lines = whole.splitlines(keepends=True)
    pieces = ["".join(lines[i : i + size]) for i in range(0, len(lines), size)]
    found = split(*pieces, longest=10_000)
    assert [d.text for d in found] == texts
    assert len({d.path for d in found}) == len(found)
