"""How rows of tokens reach their experts and come back: the seam, and the way where all experts are here.

Shapes: N tokens, K experts a token, D model width, E experts, L of them here, M rows.
"""

from typing import Protocol

from torch import Tensor

from inhouse.model.cpu import choice
from inhouse.model.permute import combine, permute, place_groups


class Delivery(Protocol):
    """Rows on their way to experts: what is computed before `arrive` may hide how long that takes."""

    def arrive(self) -> tuple[Tensor, Tensor]:
        """The rows (M, D) of the experts that are here, sorted by them, and where each one's end (L), int32.

        Rows behind the last end are nobody's.
        """
        ...

    def combine(self, out_MD: Tensor, weights_NK: Tensor) -> Tensor:
        """What the experts made of those rows, back where they came from and summed by the weights (N, D)."""
        ...


class Dispatch(Protocol):
    """Sends every token's row to each expert that it chose, wherever that is. Every row arrives."""

    def __call__(self, x_ND: Tensor, experts_NK: Tensor, load_E: Tensor) -> Delivery:
        """`load_E`: how many tokens chose each expert."""
        ...


def local_dispatch(x_ND: Tensor, experts_NK: Tensor, load_E: Tensor) -> Delivery:
    """All experts are here."""
    room = choice.room(x_ND, experts_NK.numel(), len(load_E))
    rows_NK, ends_E, num_rows = place_groups(experts_NK, len(load_E), room)
    return LocalDelivery(permute(x_ND, rows_NK, num_rows), ends_E, rows_NK)


class LocalDelivery:
    """Rows that are there already."""

    def __init__(self, x_MD: Tensor, ends_E: Tensor, rows_NK: Tensor) -> None:
        self._x_MD, self._ends_E, self._rows_NK = x_MD, ends_E, rows_NK

    def arrive(self) -> tuple[Tensor, Tensor]:
        return self._x_MD, self._ends_E

    def combine(self, out_MD: Tensor, weights_NK: Tensor) -> Tensor:
        return combine(out_MD, weights_NK, self._rows_NK)
