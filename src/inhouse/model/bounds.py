"""Who sees whom without a T x T mask: in causal attention, documents and windows come to one first key a query.

Shapes: B batch (1 where all sequences are alike), T tokens, Q queries, C keys.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Bounds(NamedTuple):
    """Queries at the places `at_Q` of a sequence see, of keys at the places `keys_C`, `first_BQ` up to their own."""

    at_Q: Tensor
    first_BQ: Tensor
    keys_C: Tensor

    def mask(self) -> Tensor:
        """True where a query sees a key (B, 1, Q, C)."""
        is_before = self.keys_C <= self.at_Q[:, None]
        return (is_before & (self.keys_C >= self.first_BQ[..., None]))[:, None]


def whole(first_BT: Tensor) -> Bounds:
    """Of sequences that lie here from end to end."""
    places_T = torch.arange(first_BT.shape[1], device=first_BT.device)
    return Bounds(places_T, first_BT, places_T)


def first_visible(num_tokens: int, window: int | None, documents_BT: Tensor | None, device: torch.device) -> Tensor:
    """The place of the first key that each query sees (B, T): it never falls along a sequence.

    A document is a stretch of one number in `documents_BT`; `window` as in `InnerAttention`.
    """
    places_T = torch.arange(num_tokens, device=device)
    if documents_BT is None:
        first_BT = torch.zeros_like(places_T)[None]
    else:
        begins_BT = F.pad(documents_BT[:, 1:] != documents_BT[:, :-1], (1, 0), value=True)
        first_BT = torch.where(begins_BT, places_T, 0).cummax(dim=1).values
    return first_BT if window is None else torch.maximum(first_BT, places_T - window + 1)
