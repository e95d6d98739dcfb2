"""The sampler against plain loops and against the frequencies that it must show."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.truncated import truncated

from inhouse.engine.request import SamplingParams
from inhouse.engine.sampler import Drawing, draw, uniform


def truncate_row(logits, temperature, top_k, top_p):
    """One row, by the book: the set of candidates and their probabilities."""
    if temperature == 0:
        return {int(logits.argmax()): 1.0}
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[: top_k or len(logits)]
    weights = [math.exp((logits[i] - logits[order[0]]) / temperature) for i in order]
    total, kept, mass = sum(weights), {}, 0.0
    for i, weight in zip(order, weights, strict=True):
        if mass >= top_p - 1e-9 and kept:
            break
        kept[i], mass = weight, mass + weight / total
    return {i: weight / sum(kept.values()) for i, weight in kept.items()}


@pytest.mark.parametrize("vocab_size", [10, 400])
def test_truncation_is_top_k_then_the_smallest_set_of_top_p(vocab_size):
    cases = [(t, k, p) for t in (0, 0.5, 3.0) for k in (0, 1, 3, 300) for p in (1.0, 0.9, 0.3, 1e-6)]
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(cases), vocab_size, generator=generator)
    temperature, top_k, top_p = (torch.tensor(x) for x in zip(*cases, strict=True))
    probabilities = truncated(logits, temperature, top_k, top_p).softmax(-1)
    for row, case, got in zip(logits, cases, probabilities, strict=True):
        expected = truncate_row(row.tolist() if case[0] else row, *case)
        assert {int(i) for i in got.nonzero()[:, 0]} == set(expected), case
        for i, probability in expected.items():
            assert float(got[i]) == pytest.approx(probability, abs=1e-4)


def test_ties_do_not_widen_the_set():
    logits = torch.zeros(1, 50)
    kept = truncated(logits, torch.tensor([1.0]), torch.tensor([7]), torch.tensor([1.0])).isfinite().sum()
    assert kept == 7


@given(
    st.lists(st.integers(-4, 4), min_size=1, max_size=30),
    st.sampled_from([0, 1, 2, 7]),
    st.sampled_from([1.0, 0.99999, 0.917, 0.473, 1e-6]),
    st.sampled_from([0.0, 0.02, 1.0]),
)
def test_of_tokens_as_likely_as_the_last_one_kept_the_first_are(values, top_k, top_p, min_p):
    logits = torch.tensor(values, dtype=torch.float32)
    possible = [i for i, value in enumerate(values) if value >= max(values) + (math.log(min_p) if min_p else -math.inf)]
    expected = {possible[i] for i in truncate_row(logits[possible], 1.0, top_k, top_p)}
    each = (torch.tensor([number]) for number in (1.0, top_k, top_p, min_p))
    found = truncated(logits[None], *each)[0]
    assert set(found.isfinite().nonzero()[:, 0].tolist()) == expected
    assert torch.equal(found[sorted(expected)], logits[sorted(expected)])


def test_a_row_is_truncated_as_if_it_were_alone():
    """Beside one of whose tokens more must be sorted; those of the others are not sorted again."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 1000, generator=generator) * torch.tensor([[9.0], [0.1], [3.0], [1.0]])
    parameters = torch.ones(4), torch.tensor([0, 0, 300, 0]), torch.tensor([0.97, 0.97, 0.9, 1.0])
    together = truncated(logits, *parameters)
    assert 1 < together[0].isfinite().sum() < 256 < together[1].isfinite().sum() < 1000
    for row, one in enumerate(together):
        alone = truncated(logits[row, None], *(each[row, None] for each in parameters))[0]
        assert one.equal(alone)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(4000, 4)
    params = [SamplingParams(max_tokens=1, temperature=0.8)] * 4000
    drawings = [Drawing(each, 1 + row // 2000, (), range(row % 2000), ()) for row, each in enumerate(params)]
    tokens, _ = draw(logits, logits.logsumexp(dim=-1), drawings)
    expected = (logits[0] / 0.8).softmax(-1).numpy()
    share = np.bincount(tokens, minlength=4) / 4000
    assert np.abs(share - expected).max() < 4 * math.sqrt(0.25 / 4000)


def test_a_token_is_the_one_whose_stretch_of_the_distribution_holds_the_random_number():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 500, generator=generator) * 3
    hows = [{}, {"top_p": 0.9}, {"top_k": 20}, {"min_p": 0.1}, {"temperature": 0.5, "top_k": 30, "top_p": 0.8}]
    params = [SamplingParams(max_tokens=1, kept=row % 2 == 0, **hows[row % len(hows)]) for row in range(60)]
    drawings = [Drawing(each, row, (), range(row), ()) for row, each in enumerate(params)]
    tokens, logprobs = draw(logits, logits.logsumexp(dim=-1), drawings)
    for row, (each, token, known) in enumerate(zip(params, tokens, logprobs, strict=True)):
        how = (torch.tensor([value]) for value in (each.temperature, each.top_k, each.top_p, each.min_p))
        probabilities = truncated(logits[row, None], *how)[0].double().softmax(-1)
        behind = probabilities.cumsum(0)
        (chance,) = uniform([row], [row])
        assert behind[token] - probabilities[token] - 1e-9 <= chance <= behind[token] + 1e-9
        assert known.sampling_logprob == pytest.approx(float(probabilities[token].log()), abs=1e-5)
        assert (known.kept is None) == (not each.kept)
        assert known.kept is None or known.kept.tolist() == probabilities.nonzero()[:, 0].tolist()


def test_a_batch_of_greedy_and_drawn_rows():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 50, generator=generator)
    greedy = SamplingParams(max_tokens=1, temperature=0, logprobs=2)
    drawn = SamplingParams(max_tokens=1)
    drawings = [Drawing(each, row + 1, (), (), ()) for row, each in enumerate((greedy, drawn, greedy))]
    tokens, logprobs = draw(logits, logits.logsumexp(dim=-1), drawings)
    assert tokens[0] == int(logits[0].argmax()) and tokens[2] == int(logits[2].argmax())
    assert logprobs[0].sampling_logprob == 0 and logprobs[0].logprob < 0 and logprobs[1].sampling_logprob < 0
    assert [i for i, _ in logprobs[0].top] == logits[0].topk(2)[1].tolist() and logprobs[1].top == []


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31))
def test_random_numbers_are_in_range_and_depend_on_nothing_else(seed, counter):
    (number,) = uniform([seed], [counter])
    assert 0 <= number < 1
    assert uniform([3, seed, 9], [1, counter, 1])[1] == number


def test_random_numbers_are_uniform_along_seeds_and_along_counters():
    for seeds, counters in (([7] * 20000, range(20000)), (range(20000), [3] * 20000)):
        numbers = uniform(list(seeds), list(counters))
        assert np.abs(np.histogram(numbers, bins=10, range=(0, 1))[0] / 2000 - 1).max() < 0.1
        assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.03
