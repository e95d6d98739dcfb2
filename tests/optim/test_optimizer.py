"""Muon's mathematics, which parameter goes where, and a state that survives a round trip."""

import pytest
import torch
from tests.tiny_models import tiny_model

from inhouse.optim.optimizer import Muon, Optimizers, orthogonalize
from inhouse.train.settings import TrainSettings


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 64, 16), (2, 16, 48)])
def test_singular_values_come_out_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.logspace(0, -2, u.shape[-1])  # a condition number of 100
    matrix = (u * values) @ vh
    result = orthogonalize(matrix).float()
    assert torch.linalg.svdvals(result).sub(1).abs().max() < 0.25
    cosine = torch.nn.functional.cosine_similarity(result.flatten(1), (u @ vh).flatten(1))
    assert cosine.min() > 0.99


def test_a_stack_of_experts_steps_like_its_matrices_apart() -> None:
    torch.manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(4, 16, 8))
    apart = [torch.nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    together, separate = (Muon(p, lr=0.1, weight_decay=0.1) for p in ([stack], apart))
    for _ in range(3):
        stack.grad = torch.randn(4, 16, 8)
        for matrix, grad in zip(apart, stack.grad, strict=True):
            matrix.grad = grad.clone()
        together.step()
        separate.step()
    torch.testing.assert_close(stack.detach(), torch.stack([p.detach() for p in apart]), rtol=1e-2, atol=1e-2)


def test_every_parameter_is_in_one_group_of_the_right_kind() -> None:
    model = tiny_model("glm4_moe")
    optimizers = Optimizers(model, TrainSettings())
    muon = {id(p) for group in optimizers.muon.param_groups for p in group["params"]}
    adamw = [id(p) for group in optimizers.adamw.param_groups for p in group["params"]]
    assert len(muon) + len(adamw) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        is_matrix = name.endswith("_proj.weight") or ".experts." in name
        assert (id(parameter) in muon) == is_matrix, name


def test_state_makes_a_fresh_optimizer_go_on_alike() -> None:
    def steps(model: torch.nn.Module, optimizers: Optimizers, seeds: range) -> None:
        for seed in seeds:
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizers.step(0.5)

    model = tiny_model("glm4_moe")
    optimizers = Optimizers(model, TrainSettings())
    steps(model, optimizers, range(3))
    twin = tiny_model("glm4_moe", seed=5)
    twin.load_state_dict(model.state_dict())
    fresh = Optimizers(twin, TrainSettings())
    state = fresh.state()
    for name, tensor in optimizers.state().items():
        state[name].copy_(tensor)
    fresh.count_from(state["muon.step"])
    steps(model, optimizers, range(3, 6))
    steps(twin, fresh, range(3, 6))
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)
