"""Bytes to text and back, whatever the text and the encoding."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.data.findings import BadInput
from inhouse.data.readers.encodings import as_utf8, decode, encoding_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1)
MARKED = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


@given(TEXTS, MARKED)
def test_any_text_with_a_mark_comes_back(text, encoding):
    data = text.encode(encoding)
    assert decode(data)[0] == text
    assert encoding_of(io.BytesIO(data)) == encoding
    assert as_utf8(io.BytesIO(data), encoding).read().decode().removeprefix("\ufeff") == text


@given(st.text(st.characters(max_codepoint=0x24F, exclude_categories=["Cc", "Cf"]), min_size=8), st.integers(0, 3))
def test_latin_text_without_a_mark_comes_back(text, number):
    encoding = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")[number]
    text = "some words before it " * 2 + text
    assert decode(text.encode(encoding)) == (text, encoding)


@given(st.binary(min_size=1, max_size=2000))
def test_any_bytes_are_text_without_zeros_or_bad_input(data):
    try:
        text, _ = decode(data)
        assert "\0" not in text
    except BadInput as bad:
        assert bad.kind in ("binary", "undecodable")


@pytest.mark.parametrize("length", [10, 20_000, 3_000_000])
def test_a_text_of_any_length_has_one_encoding(length):
    for encoding, words in (("cp1252", "déjà vu à la fête, "), ("cp1251", "это русский текст, "), ("utf-8", "中文 ")):
        text = "plain words\n" * length + f"{words}\n" * 20
        assert encoding_of(io.BytesIO(text.encode(encoding))) == encoding


def test_a_character_that_two_blocks_share_is_one() -> None:
    text = "x" + "é" * 2_000_000
    assert encoding_of(io.BytesIO(text.encode())) == "utf-8"
    assert as_utf8(io.BytesIO(text.encode("utf-16")), "utf-16").read().decode() == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Les élèves étaient très fatigués après l'été.\n"),
        ("cp1252", "À côté de la forêt, là-bas, où l'on a été.\n"),
        ("cp1252", "¿Dónde está el niño? Mañana será otro día, señor.\n"),
        ("cp1252", "Não há razão para não fazê-lo; são três irmãos.\n"),
        ("cp1252", "Perché no? È già così, può darsi.\n"),
        ("cp1252", "Fisk på isen, blåbærgrød og æbler til børnene.\n"),
        ("cp1252", "Hyvää yötä, äiti on töissä.\n"),
        ("cp1252", "naïve café\n"),
        ("cp1252", "Größe\n"),
        ("cp1252", "“quoted” – text\n"),
        ("cp1250", "Žluťoučký kůň\n"),
        ("cp1250", "Zażółć gęślą jaźń\n"),
        ("cp1250", "Árvíztűrő tükörfúrógép\n"),
        ("mac_roman", "Les élèves étaient très fatigués après l'été.\n"),
        ("mac_roman", "¿Dónde está el niño? Mañana será otro día, señor.\n"),
        ("cp850", "Não há razão para não fazê-lo; são três irmãos.\n"),
    ],
)
def test_a_short_latin_text_comes_back(encoding, text):
    assert decode(text.encode(encoding)) == (text, encoding)
