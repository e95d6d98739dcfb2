"""Bits per byte against a plain loop over whole documents, and the compressor's figure against the xz program's."""

import math
import random
import shutil
import subprocess

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.evaluate.bits_per_byte import _windows, bits_per_byte, xz_bits_per_byte

TEXTS = ["def f(x):\n    return x + 1\n", "é", "", "A longer text that does not fit into one window. " * 4]


@torch.no_grad()
def plain_bits(model, ids: list[int], context: int, stride: int) -> float:
    """Every token predicted on its own, from as much as its window holds before it."""
    bits = 0.0
    for place in range(1, len(ids)):
        start = max(0, math.ceil((place - context) / stride)) * stride
        logits = model.logits(model(torch.tensor([ids[start:place]])).hidden_BTD)[0, -1]
        bits -= torch.log_softmax(logits, dim=-1)[ids[place]].item() / math.log(2)
    return bits


@pytest.mark.parametrize(("context", "stride"), [(64, 32), (16, 8), (16, 16), (16, 1), (200, 100)])
def test_agrees_with_a_plain_loop(model, tokenizer, context, stride):
    score = bits_per_byte(model, tokenizer, TEXTS, context, stride)
    ids = [[tokenizer.end_of_document, *tokenizer.encode(text)] for text in TEXTS]
    expected = sum(plain_bits(model, each, context, stride) for each in ids) / sum(len(t.encode()) for t in TEXTS)
    assert score.value == pytest.approx(expected, rel=1e-5)
    assert score.count == 3  # the empty text counts nothing
    assert score.standard_error > 0


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 60), st.integers(1, 20), st.data())
def test_every_token_is_scored_once_and_with_enough_before_it(num_ids, context, data):
    stride = data.draw(st.integers(1, context))
    ids = list(range(num_ids))
    scored = []
    for window in _windows(0, ids, context, stride):
        assert len(window.tokens) <= context + 1
        for place in range(window.first_scored, len(window.tokens) - 1):
            target = window.tokens[place + 1]
            scored.append(target)
            assert place + 1 >= min(target, context - stride)  # tokens before it in its window
    assert scored == ids[1:]


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary(model, tokenizer):
    head = model.lm_head.weight.detach().clone()
    try:
        model.lm_head.weight.data.zero_()
        score = bits_per_byte(model, tokenizer, TEXTS, 64)
    finally:
        model.lm_head.weight.data.copy_(head)
    num_tokens = sum(len(tokenizer.encode(text)) for text in TEXTS)
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    assert score.value == pytest.approx(num_tokens * math.log2(model.config.vocab_size) / num_bytes, rel=1e-5)


def test_nothing_to_score_and_a_stride_too_long_are_sentences(model, tokenizer):
    with pytest.raises(ValueError, match="no held-out text"):
        bits_per_byte(model, tokenizer, [""], 64)
    with pytest.raises(ValueError, match="stride = 65"):
        bits_per_byte(model, tokenizer, TEXTS, 64, stride=65)


@pytest.mark.skipif(shutil.which("xz") is None, reason="the xz program is not installed")
def test_xz_alone_is_what_the_program_gives():
    rng = random.Random(0)
    files = [" ".join(rng.choices(["spam", "ham", "eggs", "bacon"], k=3000)).encode() for _ in range(3)]
    size = len(subprocess.run(["xz", "-9e", "-c"], input=b"".join(files), capture_output=True, check=True).stdout)
    scores = xz_bits_per_byte(files, [], 1 << 20)
    assert scores["xz"].value == pytest.approx(8 * size / sum(map(len, files)))


def test_xz_profits_from_training_text_up_to_the_bound():
    text = random.Random(0).randbytes(20_000)
    scores = xz_bits_per_byte([text], [text], 1 << 20)
    assert scores["xz"].value > 8
    assert scores["xz_after_training_files"].value < 0.2
    assert "all 20,000 bytes" in scores["xz_after_training_files"].how
    bounded = xz_bits_per_byte([text], [text, text], 10_000)["xz_after_training_files"]
    assert 3.5 < bounded.value < 4.5
    assert "the first 10,000 bytes" in bounded.how
