"""Streamed text: whole characters, nothing of a stop string, and in the end what the bytes say."""

from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.text import TextStream


def stream(pieces, stop=()):
    text = TextStream(tuple(stop))
    shown = []
    for piece in pieces:
        shown.append(text.push(piece))
        if text.stopped_by:
            break
    shown.append(text.finish())
    assert "".join(shown) == text.text
    return text, shown


def test_half_characters_are_held_back():
    assert stream([b"a\xc3", b"\xa9", b"\xe2\x82", b"\xac!"])[1] == ["a", "é", "", "€!", ""]


def test_bytes_that_are_no_text_become_replacement_characters():
    assert stream([b"\xff", b"a", b"\xe2\x82"])[0].text == "\ufffda\ufffd"


def test_what_may_become_a_stop_string_is_held_back():
    text, shown = stream([b"one E", b"N", b"d EN", b"D two"], ["END"])
    assert shown == ["one ", "", "ENd ", "", ""] and text.stopped_by == "END"


def test_the_first_stop_string_in_the_text_ends_it():
    text, _ = stream([b"a long way"], ["way", "long"])
    assert text.text == "a " and text.stopped_by == "long"


@given(
    st.text(alphabet="ab€é", max_size=30),
    st.lists(st.text(alphabet="ab€é", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 4), min_size=1),
)
def test_any_cut_of_the_bytes_gives_the_text_up_to_the_first_stop_to_end(text, stops, sizes):
    data, pieces = text.encode(), []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
    # whichever stop string ends first ends the text; of several that end together, the longest
    found = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    result, _ = stream(pieces, stops)
    assert (result.stopped_by in stops) == bool(found)
    if not found:
        assert result.text == text
    else:
        assert result.text in {text[:start] for _, start in found}
        assert text.startswith(result.text + result.stopped_by)


@given(st.text(alphabet="ab€🙂", max_size=20), st.lists(st.integers(1, 4), min_size=1))
def test_characters_are_counted_as_soon_as_they_are_whole(text, sizes):
    stream, data, at = TextStream(("b€", "🙂🙂")), text.encode(), 0
    while at < len(data) and stream.stopped_by is None:
        size = sizes[at % len(sizes)]
        stream.push(data[at : at + size])
        at += size
        assert stream.num_characters == len(data[:at].decode(errors="ignore"))


def test_half_a_character_tells_whether_a_stop_string_goes_on():
    assert stream([b"EN\xe2", b"\x82\xac"], ["END"])[1] == ["EN", "€", ""]
    assert stream([b"EN\xe2", b"\x82\xac!"], ["EN€"])[1] == ["", "", ""]
    assert stream([b"EN\xe2", b"\x98\x83"], ["EN€"])[1] == ["", "EN☃", ""]


def test_half_a_character_behind_a_stop_string_is_no_text():
    assert stream([b"aEND\xe2\x82"], ["END"])[0].text == "a"
