"""Answers as models give them, made by chance, and what an adapter makes of them however their bytes are cut."""

import json
from itertools import pairwise

from hypothesis import strategies as st

from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking, Usage
from inhouse.providers.adapter import Adapter
from inhouse.providers.answers import Answer, Ended, gather
from inhouse.providers.http.server_events import EventReader

TEXT = st.text(min_size=1, max_size=8)
_PROMPT, _CACHED, _COMPLETION, _THINKING = (
    st.integers(50, 90),
    st.integers(0, 50),
    st.integers(20, 40),
    st.integers(0, 20),
)
USAGES = st.builds(Usage, _PROMPT, _CACHED, _COMPLETION, _THINKING, st.just(0), st.just(0))
WRITING = st.builds(
    lambda a, b, *of: Usage(a + 99, *of, a, min(a, b)), _CACHED, _CACHED, _CACHED, _COMPLETION, _THINKING
)
ARGUMENTS = st.dictionaries(st.text(max_size=4), st.one_of(st.integers(), TEXT, st.lists(TEXT, max_size=2)), max_size=2)


@st.composite
def answers(draw: st.DrawFn) -> list[Piece]:
    """Pieces as models give them: thoughts, then text, then calls, whose arguments come in pieces."""
    pieces: list[Piece] = [Thinking(text) for text in draw(st.lists(TEXT, max_size=2))]
    pieces += [Content(text) for text in draw(st.lists(TEXT, max_size=4))]
    for number, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=2))):
        text = json.dumps(arguments)
        cut = draw(st.integers(0, len(text)))
        pieces.append(CallPiece(number, f"call_{number}", "look_up", text[:cut]))
        pieces.append(CallPiece(number, None, None, text[cut:]))
    return pieces


CUTS = st.lists(st.integers(0, 10_000), max_size=12)


def gathered(pieces: list[Piece]) -> Answer:
    return gather([*pieces, Ended("stop", None, None)])


def streamed(adapter: Adapter, raw: bytes, cuts: list[int]) -> Answer:
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    events, reader = EventReader(), adapter.reader()
    said = [
        each for begin, end in pairwise(places) for event in events.feed(raw[begin:end]) for each in reader.take(event)
    ]
    assert reader.is_over or reader.is_whole  # nothing says that a stream of Gemini's is over
    return gather([*said, reader.end()])


def with_objects(answer: Answer) -> tuple[Answer, list]:
    """Arguments as objects: a whole answer of this dialect has them as such."""
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in answer.calls]
    return answer._replace(calls=()), calls
