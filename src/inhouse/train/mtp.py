"""What multi-token prediction trains on: of every token the one after the next (DeepSeek-V3, 2024, section 2.2).

Shapes: B sequences, T tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from inhouse.model.cross_entropy import NOT_TRAINED


def targets_ahead(targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
    """Each token's target two ahead, which is its next one's; `NOT_TRAINED` at the end of a sequence, and where the
    next token is of another document. What ends a document is of it, as it is for the main loss.
    """
    ahead_BT = F.pad(targets_BT[:, 1:], (0, 1), value=NOT_TRAINED)
    if documents_BT is None:
        return ahead_BT
    goes_on_BT = F.pad(documents_BT[:, 1:] == documents_BT[:, :-1], (0, 1))
    return torch.where(goes_on_BT, ahead_BT, NOT_TRAINED)
