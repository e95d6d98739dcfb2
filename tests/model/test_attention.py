"""Two implementations of attention, one meaning; and who may look at whom."""

import pytest
import torch

from inhouse.model import attention, bounds
from inhouse.model.attention import CausalAttention
from inhouse.model.cpu import sliced_attention


@pytest.fixture(autouse=True)
def several_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sliced_attention, "_QUERIES", 7)


@pytest.mark.parametrize("window", [None, 5, 1000])
@pytest.mark.parametrize("has_documents", [False, True])
def test_sliced_attention_is_the_fused_kernel(window: int | None, has_documents: bool) -> None:
    torch.manual_seed(0)
    q = torch.randn(2, 23, 4, 8, requires_grad=True)
    k, v = (torch.randn(2, 23, 2, 8, requires_grad=True) for _ in range(2))
    documents = torch.randint(0, 3, (2, 23)).sort(dim=1)[0] if has_documents else None
    attend = CausalAttention(documents)
    sliced = attend(q, k, v, layer=0, window=window)
    with torch.no_grad():
        fused = attend(q, k, v, layer=0, window=window)
    torch.testing.assert_close(sliced, fused, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 4])
def test_a_query_sees_itself_and_what_lies_before_in_its_window_and_document(window: int | None) -> None:
    documents = torch.tensor([[0] * 9 + [1] * 8])
    q, k = torch.randn(1, 17, 1, 8), torch.randn(1, 17, 1, 8)
    v = torch.eye(17)[None, :, None].requires_grad_()  # the output is the attention itself
    seen = CausalAttention(documents)(q, k, v, layer=0, window=window)[0, :, 0] > 0
    for query in range(17):
        first = max(0 if query < 9 else 9, query - (window or 99) + 1)
        assert seen[query].nonzero().flatten().tolist() == list(range(first, query + 1))


def test_slices_leave_out_what_no_row_sees_and_need_no_bias_where_all_see_alike() -> None:
    first = torch.tensor([[0] * 10 + [10] * 11, [0] * 8 + [8] * 13])
    slices = sliced_attention.slices_of(first, torch.float32)  # of seven queries
    assert [(each.first, each.end, each.masked) for each in slices] == [(0, 7, 0), (0, 14, 0), (8, 21, 8)]
    plain = sliced_attention.slices_of(torch.zeros(1, 21, dtype=torch.int64), torch.float32)
    assert [(each.first, each.masked) for each in plain] == [(0, 0), (0, 7), (0, 14)]


def test_the_mask_is_made_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(attention, "first_visible", lambda *a: made.append(a[1]) or bounds.first_visible(*a))
    attend, q = CausalAttention(torch.zeros(1, 9, dtype=torch.int64)), torch.randn(1, 9, 1, 8)
    for layer, window in enumerate((None, 4, None, 4)):
        attend(q, q, q, layer=layer, window=window)
    assert made == [None, 4]
