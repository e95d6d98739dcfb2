"""Weights laid out for a CPU's kernels compute what they computed before."""

import pytest
import torch
from tests.engine.conftest import CONFIGS

from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice
from inhouse.model.transformer import Transformer


def new_model(kind: str, **changes: object) -> Transformer:
    model = Transformer(ModelConfig(**CONFIGS[kind] | changes), torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.3, generator=generator))
    for name, parameter in model.named_parameters():
        if "mlp.gate." not in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    return model


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("dense", {}), ("dense", {"tie_embeddings": True}), ("moe", {"attention_bias": True}), ("local", {})],
)
@torch.inference_mode()
def test_a_packed_model_says_what_it_said(kind, changes):
    model, packed = new_model(kind, **changes), new_model(kind, **changes)
    if not choice.takes_packing(packed.lm_head.weight):
        pytest.skip("this CPU's kernels gain nothing by it")
    packed.pack()
    assert packed.layers[0].self_attn.q_proj.weight.numel() == packed.lm_head.weight.numel() == 0
    assert packed.num_weights == model.num_weights
    for num_tokens in (1, 3, 40):
        tokens = torch.randint(0, 300, (1, num_tokens), generator=torch.Generator().manual_seed(num_tokens))
        logits = [each.logits(each(tokens).hidden_BTD)[0] for each in (model, packed)]
        difference = (logits[0] - logits[1]).norm() / logits[0].norm()
        assert difference < (0.3 if kind != "dense" else 0.05), "bf16: a near expert may change places"


def test_weights_in_fp32_stay_as_they_are():
    model = Transformer(ModelConfig(**CONFIGS["dense"]))
    model.pack()
    assert model.lm_head.weight.numel() > 0 and model.layers[0].self_attn.qkv is None
