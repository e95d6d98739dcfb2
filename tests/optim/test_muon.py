"""Muon's mathematics; in batches of any size the same bits."""

import pytest
import torch

from inhouse.optim import muon
from inhouse.optim.muon import Muon, apply_updates, orthogonalize


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


def stepped(bytes_at_once: int, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Stacks and matrices of two shapes after three steps."""
    monkeypatch.setattr(muon, "BYTES_AT_ONCE", bytes_at_once)
    torch.manual_seed(0)
    shapes = [(5, 16, 8)] * 2 + [(16, 8)] * 3 + [(8, 16)]
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = Muon(parameters, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("matrices", [1, 2, 3, 7])  # of 256 bytes: parts of a stack, several matrices, two stacks
def test_batches_of_any_size_give_the_same_bits(matrices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stepped(1 << 30, monkeypatch)
    for a, b in zip(stepped(256 * matrices, monkeypatch), whole, strict=True):
        assert torch.equal(a, b)


def test_no_batch_has_more_bytes_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def note(matrix_GRC: torch.Tensor) -> torch.Tensor:
        seen.append(matrix_GRC.numel() * matrix_GRC.element_size())
        return matrix_GRC

    monkeypatch.setattr(muon, "orthogonalize", note)
    stepped(700, monkeypatch)
    assert max(seen) <= 700
    assert len(seen) == 3 * (2 * 3 + 2 + 1)  # 2 + 2 + 1 matrices of each stack, 2 + 1 of the rest, 1


def test_weights_decay_where_that_does_not_oppose_the_update() -> None:
    weights = [torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[2.0, 0.0]], [[-4.0, 3.0]]])]
    updates = torch.tensor([[[1.0, 1.0]], [[-1.0, 1.0]], [[-1.0, 0.0]]])
    apply_updates(weights, updates.bfloat16(), rate=0.5, decay=0.25)
    assert torch.equal(weights[0], torch.tensor([[[0.25, -1.5]]]))
    assert torch.equal(weights[1], torch.tensor([[[2.5, -0.5]], [[-2.5, 2.25]]]))
