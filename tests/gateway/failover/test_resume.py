"""However a stream is cut and whoever goes on: what was delivered stays a prefix of a whole answer."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gateway.failover.scripted import A, B

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking, Usage
from inhouse.gateway.failover.resume import Diverged, Resumed
from inhouse.gateway.settings import ModelSettings
from inhouse.providers.answers import Answer, Begun, Ended, Event, gather
from inhouse.providers.errors import Disconnected

PLAIN, PREFILL = ModelSettings(name="m"), ModelSettings(name="m", can_prefill=True)
END = Ended("stop", None, Usage(1, 0, 1, 0))
TEXT = st.text(alphabet="ab \n", min_size=1, max_size=12)
CALL = st.tuples(st.sampled_from(("get", "put")), st.text(alphabet='{"1}', max_size=8))
ANSWERS = st.tuples(st.none() | TEXT, st.none() | TEXT, st.lists(CALL, max_size=2)).filter(any)


def request(**fields: object) -> ChatRequest:
    said = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": True}
    return ChatRequest.model_validate(said | fields)


def pieces_of(answer: tuple, id: str, cuts: st.DataObject) -> list[Piece]:
    """Of one answer, its texts in pieces of any length."""
    thinking, text, calls = answer
    pieces: list[Piece] = [Thinking(part) for part in split(thinking or "", cuts)]
    pieces += [Content(part) for part in split(text or "", cuts)]
    for number, (name, arguments) in enumerate(calls):
        pieces.append(CallPiece(number, f"{id}{number}", name, ""))
        pieces += [CallPiece(number, None, None, part) for part in split(arguments, cuts)]
    return pieces


def split(text: str, cuts: st.DataObject) -> list[str]:
    places = sorted(cuts.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=3)))
    ends = [0, *(place for place in places if place < len(text)), len(text)]
    return [text[a:b] for a, b in pairwise(ends) if b > a]


def whole(events: list[Event]) -> Answer:
    return gather(events)


@settings(max_examples=40, deadline=None)
@given(ANSWERS, st.data())
def test_the_same_said_again_goes_on_behind_what_was_delivered(answer: tuple, data: st.DataObject) -> None:
    first, again = pieces_of(answer, "x", data), pieces_of(answer, "x", data)
    resumed, got = Resumed(request()), list[Event]()
    resumed.request_for(A, PLAIN)
    for event in [Begun("1", "a"), *first][: data.draw(st.integers(0, len(first) + 1))]:
        got += resumed.take(event)
    resumed.broke(Disconnected("cut"))
    resumed.request_for(B, PLAIN)
    for event in [Begun("2", "b"), *again, END]:
        got += resumed.take(event)
    told = whole(got)
    expected = whole([Begun("2", "b"), *again, END])
    assert (told.text, told.thinking, told.calls) == (expected.text, expected.thinking, expected.calls)
    assert told.model == "b"


@settings(max_examples=40, deadline=None)
@given(ANSWERS, ANSWERS, st.data())
def test_what_differs_is_given_up_before_anything_of_it_is_told(one: tuple, other: tuple, data: st.DataObject) -> None:
    first, second = pieces_of(one, "x", data), pieces_of(other, "x", data)
    resumed, got = Resumed(request()), list[Event]()
    resumed.request_for(A, PLAIN)
    for event in [Begun("1", "a"), *first][: data.draw(st.integers(0, len(first) + 1))]:
        got += resumed.take(event)
    before = list(got)
    resumed.broke(Disconnected("cut"))
    resumed.request_for(B, PLAIN)
    try:
        for event in [Begun("2", "b"), *second, END]:
            got += resumed.take(event)
    except Diverged:
        assert got == before
        return
    told, expected = whole(got), whole([*second, END])
    assert (told.text, told.thinking, told.calls) == (expected.text, expected.thinking, expected.calls)


def delivered(resumed: Resumed, *pieces: Piece) -> None:
    resumed.request_for(A, PREFILL)
    for piece in (Begun("1", "a"), *pieces):
        list(resumed.take(piece))
    resumed.broke(Disconnected("cut"))


@pytest.mark.parametrize("other", [[Content("a")], []])
def test_a_call_without_arguments_yet_is_delivered_too(other: list[Piece]) -> None:
    resumed = Resumed(request())
    delivered(resumed, CallPiece(0, "x", "get", ""))
    resumed.request_for(B, PLAIN)
    with pytest.raises(Diverged):
        for event in [Begun("2", "b"), *other, END]:
            assert resumed.take(event) == []


def test_a_prefill_is_what_was_delivered_without_space_behind_it_and_the_limit_is_lowered() -> None:
    resumed = Resumed(request(max_tokens=50))
    delivered(resumed, Content("one two three"), Content(" \n"))
    asked = resumed.request_for(B, PREFILL)
    assert (asked.messages[-1].role, asked.messages[-1].content) == ("assistant", "one two three")
    assert asked.max_tokens == 46
    assert list(resumed.take(Content("  four"))) == [Content("  four")]


@pytest.mark.parametrize(
    ("fields", "pieces"),
    [
        ({"stop": ["END"]}, [Content("one")]),
        ({"response_format": {"type": "json_object"}}, [Content("{")]),
        ({}, [Thinking("hm"), Content("one")]),
        ({}, [Content("one"), CallPiece(0, "x", "get", "{")]),
    ],
)
def test_what_a_prefill_cannot_carry_is_generated_again(fields: dict, pieces: list[Piece]) -> None:
    resumed = Resumed(request(**fields))
    delivered(resumed, *pieces)
    assert len(resumed.request_for(B, PREFILL).messages) == 1


def test_who_refused_a_prefill_gets_none_again() -> None:
    resumed = Resumed(request())
    delivered(resumed, Content("one"))
    resumed.request_for(B, PREFILL)
    assert resumed.takes_back_prefill(B)
    assert len(resumed.request_for(B, PREFILL).messages) == 1
    assert not resumed.takes_back_prefill(B)


def test_a_refusal_of_who_was_to_go_on_is_the_answer() -> None:
    """Nobody else is asked then, as where the first refuses."""
    resumed = Resumed(request())
    resumed.request_for(A, PLAIN)
    assert [*resumed.take(Begun("1", "a")), *resumed.take(Content("I can"))]
    resumed.broke(Disconnected("cut"))
    resumed.request_for(B, PLAIN)
    refusal = Ended("content_filter", None, None)
    assert [*resumed.take(Begun("2", "b")), *resumed.take(refusal)] == [Begun("2", "b"), refusal]
