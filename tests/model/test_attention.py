"""Two implementations of attention, one meaning; and who may look at whom."""

import pytest
import torch

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
