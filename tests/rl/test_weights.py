"""What samples are the learner's weights, whatever layout they have."""

import pytest
import torch
from tests.adapted_models import randomise
from tests.engine.conftest import DENSE, MOE
from tests.rl.tiny_engine import new_engine, new_model

from inhouse.engine.request import SamplingParams
from inhouse.model.cpu import choice, packed
from inhouse.model.cpu.choice import Layout
from inhouse.model.lora.adapters import add_adapters, initialize_adapters, merge_adapters
from inhouse.model.lora.names import is_adapter
from inhouse.model.lora.settings import LoraSettings
from inhouse.rl.weights import SampledWeights

PARAMS = SamplingParams(max_tokens=6, seed=1, ignore_eos=True)
LAYOUTS = [None, Layout.ONEDNN, Layout.BF16]


def answers(engine):
    return [(each.token_ids, each.logprobs) for each in engine.generate([[5, 6, 7] * 8, [9, 10]], PARAMS)]


def change(model, by=1.25):
    with torch.no_grad():
        for weight in model.parameters():
            weight *= by


def test_in_fp32_the_learner_itself_samples():
    learner = new_model()
    weights = SampledWeights(learner, is_compiled=False)
    assert weights.model is learner
    engine = new_engine(weights.model)
    first = weights.refresh(engine), answers(engine)
    assert (weights.refresh(engine), answers(engine)) == first
    change(learner)
    assert weights.refresh(engine) != first[0]
    assert answers(engine) == answers(new_engine(learner))  # nothing is left in the prefix cache
    assert SampledWeights(learner, is_compiled=True).model is not learner


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("shape", [DENSE | {"tie_embeddings": True}, DENSE | {"attention_bias": True}, MOE], ids=str)
def test_a_copy_that_is_filled_anew_is_as_one_made_anew(layout, shape, monkeypatch):
    if layout is Layout.BF16 and packed.kernels() is None:
        pytest.skip("no compiler")
    if layout is Layout.ONEDNN and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("no products of bf16")
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: layout)
    learner = new_model(shape, torch.bfloat16)
    weights = SampledWeights(learner, is_compiled=False)
    engine = new_engine(weights.model)
    before = weights.refresh(engine), answers(engine)
    parts = {id(each) for each in weights.model.modules()}
    change(learner)
    after = weights.refresh(engine), answers(engine)
    other = SampledWeights(learner, is_compiled=False)
    fresh = new_engine(other.model)
    assert after == (other.refresh(fresh), answers(fresh))
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert {id(each) for each in weights.model.modules()} == parts  # what was compiled stays so
    assert all(weight.dtype == torch.float32 for weight in learner.parameters())


@pytest.mark.parametrize("layout", [None, Layout.ONEDNN], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_adapters_are_merged_into_what_samples(layout, dtype, monkeypatch):
    if layout is Layout.ONEDNN and (dtype != torch.bfloat16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        pytest.skip("no products of bf16")
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: layout)
    learner = new_model(MOE, dtype)
    add_adapters(learner, LoraSettings(rank=8))
    initialize_adapters(learner, 0)
    weights = SampledWeights(learner, is_compiled=False)
    engine = new_engine(weights.model)
    before = weights.refresh(engine), answers(engine)
    change(learner)  # all b are zero still
    randomise(learner)
    after = weights.refresh(engine), answers(engine)
    assert after[0] != before[0]
    assert any(is_adapter(name) for name in learner.state_dict())
    merge_adapters(learner)
    merged = SampledWeights(learner, is_compiled=True)
    other = new_engine(merged.model)
    assert after == (merged.refresh(other), answers(other))


def test_weights_that_are_not_the_learners_are_found(monkeypatch):
    learner = new_model(DENSE, torch.bfloat16)
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: None)
    weights = SampledWeights(learner, is_compiled=False)
    engine, fill = new_engine(weights.model), weights._fill

    def fill_wrongly():
        fill()
        weights.model.norm.weight.view(torch.int16)[3] ^= 1

    monkeypatch.setattr(weights, "_fill", fill_wrongly)
    with pytest.raises(RuntimeError, match="not the learner's"):
        weights.refresh(engine)
