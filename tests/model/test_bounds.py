"""The first key that a query sees says the same as a mask of all pairs."""

import pytest
import torch

from inhouse.model.bounds import Bounds, first_visible, whole


@pytest.mark.parametrize("window", [None, 1, 5, 1000])
@pytest.mark.parametrize("documents", [None, torch.tensor([[0] * 9 + [1] * 8, [3, 3, 1] + [2] * 13 + [0]])])
def test_bounds_are_the_mask_of_all_pairs(window: int | None, documents: torch.Tensor | None) -> None:
    first = first_visible(17, window, documents, torch.device("cpu"))
    for row, mask in enumerate(whole(first).mask()[:, 0]):
        for query in range(17):
            seen = [
                key for key in range(query + 1)
                if query - key < (window or 99) and (documents is None or documents[row, key] == documents[row, query])
            ]  # fmt: skip
            assert mask[query].nonzero().flatten().tolist() == seen
    assert (first.diff(dim=1) >= 0).all()


def test_queries_and_keys_may_be_any_parts() -> None:
    first = first_visible(17, 5, None, torch.device("cpu"))
    queries, keys = torch.tensor([3, 4, 11, 12]), torch.tensor([0, 1, 9, 10])
    part = Bounds(queries, first[:, queries], keys).mask()
    assert torch.equal(part, whole(first).mask()[..., queries, :][..., keys])
