"""PEFT's shapes and names of adapters, by its own formula for what they add."""

import pytest
import torch
from tests.tiny_models import tiny_config

from inhouse.model.lora.peft import from_peft, to_peft

CONFIG = tiny_config("glm4_moe")
EXPERTS, WIDTH, INNER, RANK = CONFIG.num_experts, CONFIG.hidden_size, CONFIG.moe_intermediate_size, 3
LAYER = "layers.1.mlp.experts"
PREFIX = f"base_model.model.model.{LAYER}"


def stacked(outputs: int, inputs: int, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(EXPERTS, RANK, inputs), torch.randn(each * EXPERTS, outputs, RANK)


def test_of_a_linear_map_it_is_the_two_matrices() -> None:
    a, b = torch.randn(RANK, WIDTH), torch.randn(8, RANK)
    names = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{of}.weight" for of in "AB"]
    tensors = to_peft("layers.0.self_attn.q_proj.weight", a, b)
    assert list(tensors) == names
    back = from_peft(tensors, CONFIG)["layers.0.self_attn.q_proj.weight"]
    assert torch.equal(back[0], a) and torch.equal(back[1], b)


@pytest.mark.parametrize(
    ("of", "path", "outputs", "inputs", "each"),
    [("gate_up_proj", f"{PREFIX}.base_layer", INNER, WIDTH, 2), ("down_proj", PREFIX, WIDTH, INNER, 1)],
)
def test_of_experts_it_is_one_pair_for_all(of: str, path: str, outputs: int, inputs: int, each: int) -> None:
    a, b = stacked(outputs, inputs, each)
    tensors = to_peft(f"{LAYER}.{of}", a, b)
    their_a, their_b = (tensors[f"{path}.lora_{which}.weight"] for which in "AB")
    # ParamWrapper.get_delta_weight of peft 0.21, where a stack lies as (experts, outputs, inputs)
    their_a, their_b = their_a.reshape(EXPERTS, -1, inputs), their_b.reshape(each * outputs, -1, EXPERTS)
    theirs = torch.einsum("o r e, e r i -> e o i", their_b, their_a)
    ours = (b @ a.repeat_interleave(each, dim=0)).view(theirs.shape)
    assert (ours - theirs).abs().max() < 1e-5
    back = from_peft(tensors, CONFIG)[f"{LAYER}.{of}"]
    assert torch.equal(back[0], a) and torch.equal(back[1], b)


def test_a_stack_that_is_alone_is_the_one_that_the_config_names() -> None:
    tensors = {
        name.replace(".base_layer", ""): t
        for name, t in to_peft(f"{LAYER}.gate_up_proj", *stacked(INNER, WIDTH, 2)).items()
    }
    assert list(from_peft(tensors, CONFIG, outer="gate_up_proj")) == [f"{LAYER}.gate_up_proj"]


def of_every_expert() -> dict[str, torch.Tensor]:
    sides = {"gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}
    tensors = {}
    for expert in range(EXPERTS):
        for kind, (outputs, inputs) in sides.items():
            tensors[f"{PREFIX}.{expert}.{kind}_proj.lora_A.weight"] = torch.randn(RANK, inputs)
            tensors[f"{PREFIX}.{expert}.{kind}_proj.lora_B.weight"] = torch.randn(outputs, RANK)
    return tensors


def test_files_that_name_every_expert_are_read_too() -> None:
    tensors = of_every_expert()
    found = from_peft(tensors, CONFIG)
    for kind, of, place in (("gate", "gate_up_proj", 0), ("up", "gate_up_proj", 1), ("down", "down_proj", 0)):
        a, b = found[f"{LAYER}.{of}"]
        each = len(b) // len(a)
        for expert in range(EXPERTS):
            name = f"{PREFIX}.{expert}.{kind}_proj"
            theirs = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
            assert (b[each * expert + place] @ a[expert] - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("left_out", "added", "sentence"),
    [
        ("", "base_model.model.lm_head.lora_A.weight", "tensor base_model.model.lm_head.lora_A.weight is no adapter"),
        ("0.gate_proj.lora_B", "", "lacks its lora_B"),
        ("0.down_proj", "", f"not all {EXPERTS} experts of .* have an adapter of down_proj"),
        ("up_proj", "", "only one of gate_proj and up_proj"),
        ("", f"{PREFIX}.lora", f"not of {EXPERTS} experts"),
    ],
)
def test_what_is_no_such_adapter_is_named(left_out: str, added: str, sentence: str) -> None:
    tensors = {name: t for name, t in of_every_expert().items() if not left_out or left_out not in name}
    if added.endswith("lora"):
        tensors = {f"{added}_A.weight": torch.ones(EXPERTS + 1, WIDTH), f"{added}_B.weight": torch.ones(WIDTH, 2)}
    elif added:
        tensors[added] = torch.ones(RANK, WIDTH)
    with pytest.raises(ValueError, match=sentence):
        from_peft(tensors, CONFIG)
