"""What changes the logits before a token is drawn: as transformers and OpenAI's API have it."""

import pytest
import torch
from tests.truncated import truncated
from transformers import MinPLogitsWarper, RepetitionPenaltyLogitsProcessor

from inhouse.engine.request import SamplingParams
from inhouse.engine.sampler import Drawing, penalise

VOCABULARY, PROMPT, GENERATED = 40, [1, 5, 5, 7], [3, 5, 3, 3]


@pytest.fixture
def logits() -> torch.Tensor:
    return 3 * torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))


def drawing(generated: list[int] = GENERATED, ends: tuple[int, ...] = (), **changes: object) -> Drawing:
    return Drawing(SamplingParams(max_tokens=9, **changes), 0, PROMPT, generated, ends)


@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_the_repetition_penalty_is_transformers(logits, penalty):
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([PROMPT + GENERATED]), logits[:1].clone())
    found = penalise(logits, [drawing(repetition_penalty=penalty), drawing(), drawing()])
    assert torch.equal(found[:1], expected)
    assert torch.equal(found[1:], logits[1:])


@pytest.mark.parametrize("min_p", [0.05, 0.5, 1.0])
def test_min_p_keeps_what_transformers_keeps(logits, min_p):
    rows = torch.tensor([0.7, 1.0, 0.0]), torch.tensor([0, 0, 0]), torch.ones(3)
    found = truncated(logits, *rows, torch.tensor([min_p, 0.0, min_p]))
    scaled = logits[:1] / 0.7
    assert torch.equal(found[:1].isfinite(), MinPLogitsWarper(min_p)(None, scaled.clone()).isfinite())
    assert torch.equal(found[1], logits[1])
    assert found[2].isfinite().sum() == 1


def test_presence_and_frequency_are_of_what_was_generated_alone(logits):
    found = penalise(logits, [drawing(presence_penalty=0.5, frequency_penalty=0.25), drawing([]), drawing()])
    less = torch.zeros(VOCABULARY)
    less[3], less[5] = 0.5 + 3 * 0.25, 0.5 + 0.25
    assert torch.allclose(found[0], logits[0] - less)
    assert torch.equal(found[1:], logits[1:])


def test_biases_are_added_and_nothing_ends_too_early(logits):
    before = logits.clone()
    found = penalise(
        logits,
        [
            drawing(logit_bias={2: 100.0, 4: -100.0}),
            drawing(min_tokens=5, stop_token_ids=(9,), ends=(38, 39)),
            drawing(min_tokens=4, stop_token_ids=(9,), ends=(38, 39)),
        ],
    )
    assert found[0].argmax() == 2 and found[0].argmin() == 4
    assert found[1].isneginf().nonzero()[:, 0].tolist() == [9, 38, 39]
    assert torch.equal(found[2], logits[2])
    assert torch.equal(logits, before)


def test_the_engine_draws_by_them_and_reports_the_models_own_probabilities(new_engine, naive, prompts):
    engine = new_engine()
    plain = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
    wanted = naive("dense", prompts[4], 12)
    biased = plain.model_copy(update={"logit_bias": {wanted[0]: -100.0, 17: 50.0}})
    first, second = engine.generate([prompts[4], prompts[4]], [plain, biased])
    assert first.token_ids == wanted
    assert second.token_ids == [17] * 12
    assert second.logprobs[0] < first.logprobs[0]
    with pytest.raises(ValueError, match="outside"):
        engine.add(prompts[4], plain.model_copy(update={"logit_bias": {300: 1.0}}))


def test_an_answer_has_min_tokens_before_anything_ends_it(new_engine, prompts):
    ends = SamplingParams(max_tokens=12, temperature=0, logit_bias={256: 90.0, 257: 80.0, 9: 70.0}, stop_token_ids=(9,))
    engine = new_engine()
    assert len(engine.generate([prompts[4]], ends)[0].token_ids) == 1
    completion = engine.generate([prompts[4]], ends.model_copy(update={"min_tokens": 5}))[0]
    assert len(completion.token_ids) == 6 and completion.token_ids[-1] == 256
