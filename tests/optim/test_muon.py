"""Muon's mathematics."""

import pytest
import torch

from inhouse.optim.muon import Muon, orthogonalize


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
