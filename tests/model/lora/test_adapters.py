"""Adapters change nothing at first, train alone, and end in the weights."""

import pytest
import torch
from tests.adapted_models import adapted, any_model, logits, randomise
from tests.tiny_models import batch_of
from torch.func import functional_call

from inhouse.model.lora.adapters import (
    adapters_of,
    add_adapters,
    has_adapters,
    initialize_adapters,
    merge_adapters,
    merged_weight,
    take_adapters,
)
from inhouse.model.lora.names import is_adapter
from inhouse.model.lora.settings import LoraSettings
from inhouse.train.settings import TrainSettings
from inhouse.train.step import TrainStep

each_architecture = pytest.mark.parametrize("architecture", ["qwen3", "glm4_moe", "exaone_moe"])


@each_architecture
def test_training_reaches_adapters_alone_and_merged_they_are_the_same_model(architecture: str) -> None:
    model, plain = adapted(architecture), any_model(architecture)
    assert torch.equal(logits(model), logits(plain))
    step = TrainStep(model, TrainSettings(batch_tokens=128, adapter_lr=0.02, precision="fp32"))
    losses = []
    for number in range(4):
        gradients = step.gradients(batch_of(number))
        step.update(1.0, gradients.balances)
        losses.append(gradients.loss)
    assert losses[-1] < losses[0]
    state = model.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in plain.state_dict().items())
    assert step.tensors().keys() == {  # nothing of the base is kept in a checkpoint
        "optimizer.muon.step",
        *(f"model.{name}" for name in state if is_adapter(name)),
        *(f"optimizer.{n}/{key}" for n in state if is_adapter(n) for key in ("step", "exp_avg", "exp_avg_sq")),
    }
    before = logits(model)
    assert (before - logits(plain)).abs().max() > 0.1
    merge_adapters(model)
    assert not has_adapters(model)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert (logits(model) - before).abs().max() < 1e-5


@pytest.mark.parametrize("micro_batch_tokens", [None, 32])
def test_gradients_are_those_through_the_merged_weights(micro_batch_tokens: int | None) -> None:
    model, plain = adapted("glm4_moe"), any_model("glm4_moe")
    randomise(model)
    settings = TrainSettings(batch_tokens=128, micro_batch_tokens=micro_batch_tokens, precision="fp32")
    loss = TrainStep(model, settings).gradients(batch_of(0)).loss
    adapters, merged = list(adapters_of(model)), {}
    pairs = [(each.a.detach().requires_grad_(), each.b.detach().requires_grad_()) for each in adapters]
    for each, (a, b) in zip(adapters, pairs, strict=True):
        copies = len(each.weight) // len(a) if a.ndim == 3 else 1
        merged[each.name] = each.weight + each.scale * (b @ (a.repeat_interleave(copies, dim=0) if a.ndim == 3 else a))
    tokens, targets, *_ = batch_of(0)
    hidden = functional_call(plain, merged, (tokens,)).hidden_BTD
    wanted = torch.nn.functional.cross_entropy(plain.logits(hidden).flatten(0, 1), targets.flatten())
    wanted.backward()
    assert abs(loss - wanted.item()) < 1e-6
    for each, (a, b) in zip(adapters, pairs, strict=True):
        for ours, theirs in ((each.a.grad, a.grad), (each.b.grad, b.grad)):
            assert ours is not None and theirs is not None
            assert (ours - theirs).abs().max() < 1e-6 + 1e-5 * theirs.abs().max(), each.name


def test_frozen_weights_keep_the_type_that_their_folder_has() -> None:
    model = any_model("glm4_moe").to(torch.bfloat16).float()  # of numbers that bf16 holds
    add_adapters(model, LoraSettings(rank=8), torch.bfloat16)
    initialize_adapters(model, 0)
    types = {name: weight.dtype for name, weight in model.named_parameters()}
    assert types["embed_tokens.weight"] == types["layers.1.mlp.experts.down_proj"] == torch.bfloat16
    assert types["layers.1.mlp.gate.weight"] == types["norm.weight"] == types["layers.0.self_attn.q_proj.lora_a"]
    assert types["norm.weight"] == torch.float32
    fp32 = any_model("glm4_moe").to(torch.bfloat16).float()
    assert torch.equal(logits(model), logits(fp32))


def test_targets_say_where_there_are_adapters() -> None:
    found = [each.name for each in adapters_of(adapted("glm4_moe", targets=["experts", "q_proj"]))]
    assert found == [
        "layers.0.self_attn.q_proj.weight", "layers.1.self_attn.q_proj.weight",
        "layers.1.mlp.experts.gate_up_proj", "layers.1.mlp.experts.down_proj",
    ]  # fmt: skip


def test_known_adapters_are_taken_up_and_others_refused() -> None:
    model, again = adapted("glm4_moe"), any_model("glm4_moe")
    randomise(model)
    found = list(adapters_of(model))
    take_adapters(again, {each.name: (each.a, each.b) for each in found}, found[0].scale)
    assert torch.equal(logits(again), logits(model))
    for ours, theirs in zip(found, adapters_of(again), strict=True):
        assert torch.equal(merged_weight(ours), merged_weight(theirs))
    q_proj = found[0]
    with pytest.raises(ValueError, match=r"adapter of layers\.9\.q, which this model does not have"):
        take_adapters(any_model("glm4_moe"), {"layers.9.q": (q_proj.a, q_proj.b)}, 1.0)
    with pytest.raises(ValueError, match="do not go with the weight's"):
        take_adapters(any_model("glm4_moe"), {q_proj.name: (q_proj.a, q_proj.b[:-1])}, 1.0)
