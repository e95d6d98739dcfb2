"""What is longer than a row: nothing that fits is lost, and nobody learns to stop where it was cut."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.posttrain.chat_template import encode_conversation
from inhouse.posttrain.rows.encoded import size
from inhouse.posttrain.rows.too_long import fit

SYSTEM = {"role": "system", "content": "Be brief."}


def encoder(tokenizer):
    return partial(encode_conversation, tokenizer)


def turn(number: int, words: int, **more: object) -> list[dict[str, object]]:
    return [
        {"role": "user", "content": f"Say {number}."},
        {"role": "assistant", "content": f"<{number}>" + " so" * words, **more},
    ]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.booleans(), st.integers(30, 120))
def test_split_keeps_every_answer_that_fits_once_and_in_order(tokenizer, words, has_system, length):
    messages = [SYSTEM] * has_system + [m for number, each in enumerate(words) for m in turn(number, each)]
    pieces, was_too_long = fit(encoder(tokenizer), messages, length, "split")
    assert all(size(piece) <= length for piece in pieces)
    texts = [tokenizer.decode(piece.ids) for piece in pieces]
    assert all(("Be brief." in text) == has_system for text in texts)
    for number, each in enumerate(words):
        alone = encode_conversation(tokenizer, [SYSTEM] * has_system + turn(number, each))
        holding = [text for text in texts if f"Say {number}." in text]
        assert len(holding) <= 1
        if size(alone) <= length:
            assert f"<{number}>" + " so" * each + "<|im_end|>" in holding[0]
    assert was_too_long == (len(pieces) != 1 or size(encode_conversation(tokenizer, messages)) > length)
    kept, _ = fit(encoder(tokenizer), messages, length, "truncate")
    assert kept == pieces[:1] or not kept  # the same beginning, without what follows
    assert fit(encoder(tokenizer), messages, length, "leave_out")[0] == ([] if was_too_long else pieces)


@pytest.mark.parametrize("too_long", ["truncate", "split"])
def test_an_answer_that_is_too_long_itself_is_cut_and_its_end_is_not_trained(tokenizer, too_long):
    messages = [SYSTEM, *turn(1, 200)]
    (piece,), was_too_long = fit(encoder(tokenizer), messages, 64, too_long)
    assert was_too_long
    assert size(piece) == 64
    assert tokenizer.end_of_turn not in [i for i, is_trained in zip(*piece, strict=True) if is_trained]
    assert encode_conversation(tokenizer, messages).ids[: len(piece.ids)] == piece.ids


def test_where_no_answer_begins_in_a_row_nothing_is_kept(tokenizer):
    messages = [{"role": "user", "content": "so " * 200}, {"role": "assistant", "content": "Yes."}]
    assert fit(encoder(tokenizer), messages, 32, "split") == ([], True)
    assert fit(encoder(tokenizer), messages, 32, "truncate") == ([], True)


def test_turns_that_are_not_trained_on_do_not_hide_the_one_that_is(tokenizer):
    messages = [*turn(1, 5, weight=0), *turn(2, 200)]
    (piece,), _ = fit(encoder(tokenizer), messages, 64, "truncate")
    assert "<2> so so" in tokenizer.decode(piece.ids)


def test_many_turns_are_split_with_as_much_work_as_a_piece_is_long(tokenizer):
    encoded = []

    def encode(messages):
        encoded.append(len(messages))
        return encode_conversation(tokenizer, messages)

    messages = [m for number in range(150) for m in turn(number, 1)]
    pieces, _ = fit(encode, messages, 64, "split")
    told = [tokenizer.decode(piece.ids) for piece in pieces]
    assert [sum(f"Say {number}." in text for text in told) for number in range(150)] == [1] * 150
    assert sum(encoded) < 15 * len(messages)
