"""What the sampler's truncation leaves, as whole rows."""

import torch
from torch import Tensor

from inhouse.engine.sampler import truncate


def truncated(logits_NV: Tensor, *parameters: Tensor) -> Tensor:
    """As `truncate`: logits over temperature (N, V), minus infinity for tokens that are no candidates."""
    ids_NC, logits_NC = truncate(logits_NV, *parameters)
    rows, places = logits_NC.isfinite().nonzero(as_tuple=True)
    whole_NV = torch.full_like(logits_NV, -torch.inf)
    whole_NV[rows, ids_NC[rows, places]] = logits_NC[rows, places]
    return whole_NV
