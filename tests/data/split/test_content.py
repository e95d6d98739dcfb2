"""What decides a text's side is its letters alone, and an insertion concerns no block but its own."""

import hashlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.split.content import LONGEST_BLOCK, blocks, content_key, held_keys, is_held_out, normal_form

TEXTS = st.text(st.characters(codec="utf-8"))
WORDS = st.text(st.sampled_from("abcdefgh éß漢.!?,"), min_size=1, max_size=40).filter(str.strip)
PARAGRAPHS = st.lists(st.lists(WORDS, min_size=1, max_size=4).map("\n".join), min_size=1, max_size=12, unique=True)


@given(TEXTS)
def test_near_copies_have_one_key(text: str) -> None:
    copies = [f"\ufeff{text}", text + "\n", "\n  " + text, text.replace("\n", "\r\n"), text.replace(" ", " \t ")]
    copies += [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    assert {content_key(copy) for copy in copies} == {content_key(text)}


@given(TEXTS)
def test_ascii_takes_a_short_cut_to_the_same_form(text: str) -> None:
    letters = "".join(unicodedata.normalize("NFKC", text).split()).replace("\ufeff", "")
    assert normal_form(text) == letters.encode()


@pytest.mark.parametrize(("one", "other"), [("a b", "a c"), ("A", "a"), ("x = 1", "x = 2"), ("über", "uber")])
def test_other_letters_are_another_text(one: str, other: str) -> None:
    assert content_key(one) != content_key(other)


def test_the_rule_is_the_one_that_is_documented() -> None:
    for number in range(400):
        text = f"A text, number {number}.\n"
        digits = hashlib.sha256(f"Atext,number{number}.".encode()).hexdigest()[:16]
        assert is_held_out(content_key(text), held_keys(20)) == (int(digits, 16) < 2**64 / 20)


def test_a_larger_share_holds_out_the_same_and_more() -> None:
    keys = [content_key(str(number)) for number in range(2000)]
    fewer, more = ({key for key in keys if is_held_out(key, held_keys(one_in))} for one_in in (20, 10))
    assert fewer < more and 60 < len(fewer) < 140 and 150 < len(more) < 250


@given(TEXTS)
def test_blocks_joined_are_the_text(text: str) -> None:
    assert "".join(blocks(text)) == text


@given(PARAGRAPHS, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["", " ", "\t"]))
def test_blocks_are_paragraphs_in_all_newline_forms(paragraphs: list[str], newline: str, blank: str) -> None:
    text = f"\n{blank}\n".join(paragraphs)
    found = [normal_form(block) for block in blocks(text.replace("\n", newline))]
    assert found == [normal_form(paragraph) for paragraph in paragraphs]


@given(PARAGRAPHS, st.data())
def test_an_insertion_changes_its_own_paragraph_only(paragraphs: list[str], data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(paragraphs) - 1))
    before = list(blocks("\n\n".join(paragraphs)))
    lines = paragraphs[where].split("\n")
    lines.insert(data.draw(st.integers(0, len(lines))), data.draw(st.sampled_from(["A line.", ""])))
    after = list(blocks("\n\n".join([*paragraphs[:where], "\n".join(lines), *paragraphs[where + 1 :]])))
    assert {normal_form(b) for b in before} - {normal_form(b) for b in after} <= {normal_form(paragraphs[where])}


@pytest.mark.parametrize(
    ("unit", "number"),
    [("A line without blank ones, {}.\n", 400), ("One sentence of many, {}. ", 400), ("word{} ", 8000)],
    ids=["lines", "sentences", "words"],
)
def test_what_has_no_paragraphs_is_cut_further_and_as_stably(unit: str, number: int) -> None:
    units = [unit.format(i) for i in range(number)]
    found = list(blocks("".join(units)))
    assert len(found) > 50 and max(map(len, found)) <= LONGEST_BLOCK
    again = list(blocks("".join([*units[:200], unit.format("-"), *units[200:]])))
    assert len(set(found) - set(again)) <= 2


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "\n" * 1_000_000, ("\r" + " " * 999) * 1000, ".'" * 500_000, "a " * 500_000]
)
def test_strange_texts_take_no_quadratic_time(text: str) -> None:
    assert "".join(blocks(text)) == text


def test_a_text_of_one_block() -> None:
    assert list(blocks("one")) == ["one"] and list(blocks("")) == []
    assert list(blocks("x" * 10_000)) == ["x" * 10_000]
    assert list(blocks("\n \n\n one\n\n\n two")) == ["\n \n\n one\n\n\n", " two"]
