"""Rows to their experts and back, against plain indexing that torch derives gradients of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inhouse.model.permute import combine, permute, place_groups, reorder

NUM, TOP_K, WIDTH, GROUPS = 37, 3, 16, 5


def some_groups(seed: int = 0) -> Tensor:
    """Distinct for every token; none takes the last but one."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(NUM, GROUPS, generator=generator)
    scores[:, 3] = -1.0
    return scores.topk(TOP_K)[1]


def gradients(function: Callable[..., Tensor], *leaves: Tensor) -> list[Tensor]:
    leaves = tuple(leaf.clone().requires_grad_() for leaf in leaves)
    out = function(*leaves)
    probe = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.dtype)
    return [out, *torch.autograd.grad((out * probe).sum(), leaves)]


@pytest.mark.parametrize("room", [1, 8])
def test_groups_lie_one_behind_the_other_in_the_order_they_came(room: int) -> None:
    groups_NK = some_groups()
    rows_NK, ends, num_rows = place_groups(groups_NK, GROUPS, room)
    counts = torch.bincount(groups_NK.flatten(), minlength=GROUPS)
    assert ends.tolist() == (-(counts // -room) * room).cumsum(0).tolist() and ends.dtype == torch.int32
    starts = [0, *ends.tolist()]
    for group in range(GROUPS):
        rows = rows_NK[groups_NK == group]
        assert rows.tolist() == list(range(starts[group], starts[group] + counts[group]))
    assert ends[-1] <= num_rows


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("room", [1, 8])
def test_it_is_plain_indexing(room: int, dtype: torch.dtype) -> None:
    rows_NK, _, num_rows = place_groups(some_groups(), GROUPS, room)
    x_ND, weights_NK = torch.randn(NUM, WIDTH).to(dtype), torch.rand(NUM, TOP_K)

    def ours(x_ND: Tensor, weights_NK: Tensor) -> Tensor:
        return combine(permute(x_ND, rows_NK, num_rows).sin(), weights_NK, rows_NK)

    def plain(x_ND: Tensor, weights_NK: Tensor) -> Tensor:
        rows_MD = torch.zeros(num_rows, WIDTH, dtype=dtype)
        rows_MD = rows_MD.index_copy(0, rows_NK.flatten(), x_ND.repeat_interleave(TOP_K, dim=0)).sin()
        return (rows_MD[rows_NK].float() * weights_NK[..., None]).sum(dim=1).to(dtype)

    for found, expected in zip(gradients(ours, x_ND, weights_NK), gradients(plain, x_ND, weights_NK), strict=True):
        torch.testing.assert_close(found, expected)


def test_nothing_flows_back_to_rows_that_fill_up() -> None:
    rows_NK, _, num_rows = place_groups(some_groups(), GROUPS, 8)
    x_MD = torch.randn(num_rows, WIDTH, requires_grad=True)
    combine(x_MD, torch.rand(NUM, TOP_K), rows_NK).sum().backward()
    is_filled = torch.ones(len(x_MD), dtype=torch.bool).index_fill(0, rows_NK.flatten(), False)
    assert x_MD.grad is not None and is_filled.any() and not x_MD.grad[is_filled].any()


def test_gradients_are_those_of_finite_differences() -> None:
    rows_NK, _, num_rows = place_groups(some_groups()[:6], GROUPS, 1)
    x_ND = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weights_NK = torch.rand(6, TOP_K, dtype=torch.float64, requires_grad=True)

    def both(x_ND: Tensor, weights_NK: Tensor) -> Tensor:
        return combine(permute(x_ND, rows_NK, num_rows), weights_NK, rows_NK)

    assert torch.autograd.gradcheck(both, (x_ND, weights_NK))


def test_places_of_no_rows() -> None:
    rows_NK, ends, num_rows = place_groups(torch.zeros(0, 2, dtype=torch.int64), 3, room=1)
    assert ends.tolist() == [0, 0, 0]
    assert permute(torch.zeros(0, 4), rows_NK, num_rows).shape == (0, 4)


def test_another_order_and_back() -> None:
    order, x_MD = torch.randperm(9), torch.randn(9, 2)
    found, grad = gradients(lambda x_MD: reorder(x_MD, order, order.argsort()), x_MD)
    expected, expected_grad = gradients(lambda x_MD: x_MD[order], x_MD)
    assert torch.equal(found, expected) and torch.equal(grad, expected_grad)
