"""Tokens go out with their text: characters split over tokens, stop strings, echo, and where each token begins."""

from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.request import StepOutput, TokenLogprobs
from inhouse.engine.text import TextStream
from inhouse.serve.choices import Choice, Delta

PIECES = st.lists(st.sampled_from(["a", "b", "é", "€", "🙂", "ab€"]), min_size=1, max_size=8)


class Pieces:
    """A tokenizer whose token i is `pieces[i]`."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def decode_bytes(self, ids: list[int]) -> bytes:
        return b"".join(self.pieces[i] for i in ids)


def follow(pieces: list[bytes], stop: tuple[str, ...] = (), ends: bool = False, **options: object) -> list[Delta]:
    """What a choice says of a completion of these tokens; `ends`: the last one is an end of turn, without text."""
    choice, stream, deltas = Choice(Pieces(pieces), num_top=1, **options), TextStream(stop), []
    for token, piece in enumerate(pieces):
        is_last = token == len(pieces) - 1
        text = "" if ends and is_last else stream.push(piece)
        is_last = is_last or stream.stopped_by is not None
        text += stream.finish() if is_last else ""
        known = TokenLogprobs(-1.0, -1.0, [(token, -1.0)])
        prompt = [known] * (len(options.get("echo") or [0]) - 1)
        reason = "stop" if is_last else None
        deltas.append(
            choice.take(
                StepOutput(0, token, text, stream.num_characters, known, 0, prompt, reason, stream.stopped_by, None)
            )
        )
        if is_last:
            break
    assert choice.num_tokens == len(deltas)
    return deltas


def raw(delta: Delta) -> list[bytes]:
    return [entry.chosen.raw for entry in delta.entries]


def starts(deltas: list[Delta]) -> list[int]:
    return [entry.start for delta in deltas for entry in delta.entries]


def cut(text: str, sizes: list[int]) -> list[bytes]:
    data, pieces = text.encode(), []
    while data:
        size = sizes[len(pieces) % len(sizes)]
        pieces, data = [*pieces, data[:size]], data[size:]
    return pieces


def test_a_character_split_over_tokens_comes_with_its_last_one():
    deltas = follow([b"a\xf0\x9f", b"\x99", b"\x82b"])
    assert [delta.text for delta in deltas] == ["a", "", "🙂b"]
    assert [raw(delta) for delta in deltas] == [[b"a\xf0\x9f"], [b"\x99"], [b"\x82b"]]
    assert starts(deltas) == [0, 1, 1]


def test_tokens_that_may_become_a_stop_string_are_held_back_with_their_text():
    deltas = follow([b"x", b"E", b"N", b"y", b"\xc3\xa9"], ("END",))
    assert [delta.text for delta in deltas] == ["x", "", "", "ENy", "é"]
    assert [raw(delta) for delta in deltas] == [[b"x"], [], [], [b"E", b"N", b"y"], [b"\xc3\xa9"]]
    assert starts(deltas) == [0, 1, 2, 3, 4]


def test_a_stop_string_cuts_the_tokens_of_a_chat_and_none_of_a_completion():
    pieces = ["é€E".encode(), b"N", b"Dx"]
    deltas = follow(pieces, ("END",))
    assert [delta.text for delta in deltas] == ["é€", "", ""]
    assert [raw(delta) for delta in deltas] == [[], [], pieces[:1]]  # the first has text of the answer in it
    deltas = follow(pieces, ("END",), keep_ended=True)
    assert [raw(delta) for delta in deltas] == [[], [], pieces]
    assert starts(deltas) == [0, 3, 4]


def test_a_stop_string_of_split_characters():
    deltas = follow([b"a\xe2\x82", b"\xac\xc3", b"\xa9", b"!"], ("€é",), keep_ended=True)
    assert [delta.text for delta in deltas] == ["a", "", ""]
    assert [raw(delta) for delta in deltas] == [[b"a\xe2\x82"], [], [b"\xac\xc3", b"\xa9"]]
    assert starts(deltas) == [0, 1, 2]


def test_an_end_of_turn_is_a_token_of_a_completion_only():
    assert raw(follow([b"a", b"<end>"], ends=True)[-1]) == []
    deltas = follow([b"a", b"<end>"], ends=True, keep_ended=True)
    assert raw(deltas[-1]) == [b"<end>"] and starts(deltas) == [0, 1] and deltas[-1].text == ""


def test_an_echo_begins_with_the_prompts_tokens():
    pieces = [b"\xe2\x82", b"\xacx", b"y"]
    deltas = follow(pieces, echo=[0, 1], keep_ended=True)
    assert [delta.text for delta in deltas] == ["€x", "€x", "y"]
    assert [raw(delta) for delta in deltas] == [[*pieces[:2], pieces[0]], pieces[1:2], pieces[2:]]
    assert starts(deltas) == [0, 0, 2, 2, 4]
    first = deltas[0].entries[0]  # nothing stands before it
    assert first.top == [] and first.chosen.logprob == 0.0


def test_an_echo_that_ends_in_half_a_character():
    deltas = follow([b"a\xe2", b"\x82", b"b"], echo=[0], keep_ended=True)
    text = "".join(delta.text for delta in deltas)
    assert text == "a\ufffda\ufffdb"
    assert starts(deltas) == [0, 1, 3, 3]  # whole characters before each token


@given(PIECES, st.lists(st.integers(1, 4), min_size=1), st.lists(st.sampled_from(["b", "€", "é€", "bé"]), max_size=2))
def test_every_token_begins_where_the_whole_characters_before_it_end(characters, sizes, stop):
    text = "".join(characters)
    pieces = cut(text, sizes)
    deltas = follow(pieces, tuple(stop), keep_ended=True)
    before = [b"".join(pieces[:i]).decode(errors="ignore") for i in range(len(deltas))]
    assert starts(deltas) == [len(each) for each in before]
    released = 0
    for delta in deltas:
        released += len(delta.text)
        assert delta.finish_reason or all(entry.end <= released for entry in delta.entries)
    assert [piece for delta in deltas for piece in raw(delta)] == pieces[: len(deltas)]
