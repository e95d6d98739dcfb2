"""Thinking ends at its budget: the end is forced, what stands before and after is the model's own."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inhouse.engine.grammar import grammar, lark, regex
from inhouse.engine.request import SamplingParams, ThinkingLimit
from inhouse.engine.sampler import only
from inhouse.engine.text import Thinking

CLOSING = "\n</think>\n\n"
GRAMMAR = grammar(lark('start: t /\\s{0,4}/ @answer\nt[suffix="</think>"]: /(?s:.*)/'), answer=regex("[0-9]{3}"))


def limit(budget, is_open=True):
    return ThinkingLimit(budget, tuple(CLOSING.encode()), is_open, "<think>", "</think>")


def params(budget, **more):
    return SamplingParams(**{"max_tokens": 40, "ignore_eos": True, "temperature": 0, "thinking": limit(budget)} | more)


def where(ids):
    """Where the end is forced."""
    return "".join(map(chr, ids)).find(CLOSING)


def test_the_end_is_forced_where_the_budget_is_spent(new_engine, naive, prompts):
    for budget in (0, 1, 7):
        (completion,) = new_engine().generate([prompts[3]], params(budget))
        own = completion.token_ids[:budget]
        assert own == naive("dense", prompts[3], budget)[:budget]
        start = where(completion.token_ids)
        assert budget <= start <= budget + 3  # a character that was begun is ended
        after = start + len(CLOSING)
        more = naive("dense", prompts[3] + completion.token_ids[:after], 40 - after)
        assert completion.token_ids[after:] == more


def test_log_probabilities_stay_the_models_own(new_engine, models, prompts):
    (completion,) = new_engine().generate([prompts[2]], params(4, logprobs=2, temperature=1.0, seed=3))
    ids = torch.tensor([prompts[2] + completion.token_ids])
    with torch.no_grad():
        hidden_TD = models["dense"](ids[:, :-1]).hidden_BTD[0, len(prompts[2]) - 1 :]
        known = models["dense"].logits(hidden_TD).log_softmax(-1)
    own = known.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    assert torch.allclose(torch.tensor(completion.logprobs), own, atol=1e-4)
    start = where(completion.token_ids)
    assert all(value == 0.0 for value in completion.sampling_logprobs[start : start + len(CLOSING)])
    assert all(math.isfinite(value) for value in completion.logprobs)


def test_what_a_grammar_wants_comes_behind_it(new_engine, prompts):
    for seed in range(4):
        (completion,) = new_engine().generate(
            [prompts[1]], params(6, grammar=GRAMMAR, seed=seed, temperature=1.0, max_tokens=60, ignore_eos=False)
        )
        assert completion.finish_reason == "stop"
        assert re.fullmatch(r"(?s).*</think>\s{0,4}[0-9]{3}", completion.text), completion.text


def test_alone_and_among_others_it_is_the_same(new_engine, prompts):
    each = [params(number, seed=number, temperature=1.0) for number in range(len(prompts))]
    together = new_engine(max_sequences=2).generate(prompts, each)
    alone = [new_engine().generate([prompt], own)[0] for prompt, own in zip(prompts, each, strict=True)]
    assert [completion.token_ids for completion in together] == [completion.token_ids for completion in alone]


def test_tokens_that_are_none(new_engine, prompts):
    with pytest.raises(ValueError, match="thinking name tokens outside"):
        new_engine().add(prompts[0], params(1, thinking=limit(1)._replace(end_ids=(999,))))


def follow(pieces, own):
    """What is generated where the model writes these pieces; the tokens are bytes."""
    thinking, text, pieces = Thinking(own), b"", list(pieces)
    while pieces or thinking.forced is not None:
        forced = thinking.forced
        piece = pieces.pop(0) if forced is None else bytes([forced])
        thinking.take(piece)
        text += piece
    return text.decode(errors="replace")


@pytest.mark.parametrize(
    ("pieces", "is_open", "expected"),
    [
        (["a", "b", "c", "d"], True, "ab" + CLOSING + "cd"),
        (["a", "</thi", "nk>", "b", "c", "d"], True, "a</thi" + CLOSING + "nk>bcd"),
        (["a</think>", "b", "c", "d"], True, "a</think>bcd"),
        (["<thi", "nk>", "a", "b", "c"], False, "<think>ab" + CLOSING + "c"),
        (["\n ", "<think>\n", "a", "b"], False, "\n <think>\nab" + CLOSING),
        (["a", "<think>", "b", "c", "d"], False, "a<think>bcd"),
        (["<thank", "a", "b", "c"], False, "<thankabc"),
        (["a", "b</think>", "<think>", "c", "d", "e"], True, "ab</think><think>cde"),
    ],
)
def test_only_thinking_at_the_beginning_counts(pieces, is_open, expected):
    assert follow([piece.encode() for piece in pieces], limit(2, is_open)) == expected


def test_a_character_is_ended_first():
    assert follow([b"a", b"\xe2", b"\x82", b"\xac", b"b"], limit(2)) == "a€" + CLOSING + "b"


@given(st.lists(st.sampled_from([b"a", b"</", b"think>", b"\xe2\x82", b"\xac"]), max_size=12), st.integers(0, 9))
def test_the_run_is_whole_or_not_there(pieces, budget):
    text = follow(pieces, limit(budget))
    assert text.count(CLOSING) <= 1
    own = b"".join(pieces).decode(errors="replace")
    assert text.replace(CLOSING, "") == own or CLOSING not in text


@given(st.integers(0, 299))
def test_a_mask_of_one(token):
    bits = "".join(f"{byte:08b}"[::-1] for byte in only(token, 300).tobytes())
    assert [place for place, bit in enumerate(bits) if bit == "1"] == [token]
