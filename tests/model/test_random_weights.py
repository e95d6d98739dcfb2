"""Random weights: their deviations and zeros, and that each is a function of seed, name and place alone."""

import pytest
import torch
from tests.tiny_models import tiny_config

from inhouse.model.random_weights import fill_normal
from inhouse.model.transformer import Transformer


def initialized(architecture: str = "glm4_moe", seed: int = 0, **changes: int) -> dict[str, torch.Tensor]:
    model = Transformer(tiny_config(architecture).model_copy(update=changes))
    model.initialize(seed)
    return dict(model.state_dict())


def test_deviations_and_zeros() -> None:
    state, width = initialized(), 32
    deviations = {
        "embed_tokens.weight": 1.0,
        "lm_head.weight": 0.001,
        "layers.0.self_attn.q_proj.weight": width**-0.5,
        "layers.1.mlp.experts.gate_up_proj": width**-0.5,
        "layers.1.mlp.gate.weight": width**-0.5,
    }
    for name, deviation in deviations.items():
        assert state[name].std().item() == pytest.approx(deviation, rel=0.1), name
    for name in ("self_attn.o_proj.weight", "mlp.experts.down_proj", "mlp.shared_experts.down_proj.weight"):
        assert (state[f"layers.1.{name}"] == 0).all()
    assert (state["norm.weight"] == 1).all()


def test_a_weight_does_not_depend_on_those_before_it() -> None:
    state, other = initialized(), initialized(vocab_size=48, num_experts=8)
    assert torch.equal(state["layers.1.self_attn.q_proj.weight"], other["layers.1.self_attn.q_proj.weight"])
    name = "layers.1.mlp.experts.gate_up_proj"
    assert torch.equal(state[name][:16], other[name][:16])


def test_no_two_matrices_are_alike() -> None:
    state = initialized()
    matrices = [*state["layers.1.mlp.experts.gate_up_proj"]]
    assert len({tuple(matrix.flatten().tolist()) for matrix in matrices}) == len(matrices)
    again, other = initialized(), initialized(seed=1)
    assert torch.equal(state["embed_tokens.weight"], again["embed_tokens.weight"])
    assert not torch.equal(state["embed_tokens.weight"], other["embed_tokens.weight"])


def test_the_numbers_of_a_seed_do_not_change() -> None:
    weight = torch.empty(2, 2)
    fill_normal(weight, 1.0, 0, "a")
    torch.testing.assert_close(
        weight, torch.tensor([[-2.0465195, 1.6968445], [-2.1307106, 1.4968263]]), rtol=0, atol=1e-6
    )


def test_matrices_of_two_names_take_turns() -> None:
    both, gate, up = torch.empty(6, 4, 5), torch.empty(3, 4, 5), torch.empty(3, 4, 5)
    fill_normal(both, 1.0, 0, "gate", "up")
    fill_normal(gate, 1.0, 0, "gate")
    fill_normal(up, 1.0, 0, "up")
    assert torch.equal(both[0::2], gate) and torch.equal(both[1::2], up)
