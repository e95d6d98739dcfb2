"""FlexAttention and matmuls compute one function; its blocks of keys leave out nothing that a query sees."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from inhouse.model.bounded_attention import BLOCK, block_mask, bounded_attention, by_blocks
from inhouse.model.bounds import Bounds, first_visible, whole

TOKENS = 3 * BLOCK + 7


def bounds_of(window: int | None, has_documents: bool) -> Bounds:
    torch.manual_seed(0)
    documents = torch.randint(0, 4, (2, TOKENS)).sort(dim=1)[0] if has_documents else None
    return whole(first_visible(TOKENS, window, documents, torch.device("cpu")))


each_bound = pytest.mark.parametrize(
    ("window", "has_documents"), [(None, False), (None, True), (50, True), (200, False)]
)


@each_bound
def test_flex_attention_is_the_matmuls(window: int | None, has_documents: bool) -> None:
    bounds = bounds_of(window, has_documents)
    q, k, v = (torch.randn(2, TOKENS, heads, 16) for heads in (4, 2, 2))
    expected = bounded_attention(q, k, v, bounds.mask())
    torch.testing.assert_close(by_blocks(q, k, v, block_mask(bounds, 2)), expected, rtol=1e-5, atol=1e-5)
    pairs = torch.einsum("bqhd,bchd->bqhc", q, k.repeat_interleave(2, 2)) / 4
    pairs = pairs.masked_fill(~bounds.mask().transpose(1, 2), -torch.inf)
    torch.testing.assert_close(expected[1], pairs.logsumexp(-1))


@each_bound
def test_blocks_are_those_that_torch_finds_in_the_mask_of_all_pairs(window: int | None, has_documents: bool) -> None:
    ours = block_mask(bounds_of(window, has_documents), 2)
    theirs = create_block_mask(ours.mask_mod, 2, None, TOKENS, TOKENS, device="cpu", BLOCK_SIZE=BLOCK)
    for name in ("kv", "full_kv", "q", "full_q"):
        counts = [getattr(mask, f"{name}_num_blocks") for mask in (ours, theirs)]
        assert torch.equal(*counts), name
        indices = [getattr(mask, f"{name}_indices") for mask in (ours, theirs)]
        for place in torch.cartesian_prod(*map(torch.arange, counts[0].shape)):
            number = counts[0][tuple(place)]
            assert torch.equal(*(each[tuple(place)][:number] for each in indices)), name


def test_parts_of_a_sequence_in_any_order() -> None:
    """As a ring cuts them: queries and keys from two places each, some blocks across the seam."""
    full, q_at = bounds_of(200, True), torch.cat((torch.arange(70, 170), torch.arange(300, 391)))
    c_at = torch.cat((torch.arange(0, 70), torch.arange(200, 300)))
    bounds = Bounds(q_at, full.first_BQ[:, q_at], c_at)
    mask, block = bounds.mask(), block_mask(bounds, 2)
    whole_blocks = block.full_kv_num_blocks.sum()
    listed = block.to_dense() > 0
    padded = torch.zeros(2, 1, 2 * BLOCK, 2 * BLOCK, dtype=torch.bool)
    padded[..., : len(q_at), : len(c_at)] = mask
    is_seen = padded.unflatten(-1, (2, BLOCK)).unflatten(2, (2, BLOCK)).any(dim=-1).any(dim=3)
    assert (is_seen <= listed).all()
    assert whole_blocks == 0  # the window is narrower than a block of keys and one of queries


def test_a_query_without_keys_gives_something_finite_of_no_weight() -> None:
    q, k = torch.randn(1, 2, 1, 16, requires_grad=True), torch.randn(1, 3, 1, 16)
    mask = torch.tensor([[True, False, True], [False, False, False]])[None, None]
    out, lse = bounded_attention(q, k, k, mask)
    assert out.isfinite().all() and lse[0, 1] <= -1e29
    (out * (lse[..., None]).exp()).sum().backward()
    assert q.grad is not None and q.grad.isfinite().all()
