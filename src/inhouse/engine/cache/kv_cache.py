"""Keys and values in pages of fixed size, shared between requests that begin alike (PagedAttention, Kwon et al. 2023).

A page is shared only when it is full, so nobody ever writes into somebody else's page. Who begins like a full page gets
a copy of it to go on in.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inhouse.model.config import ModelConfig


class KVCache:
    """The memory behind the pages: keys and values of every layer, and the experts chosen where there are any.

    With `is_ahead` those of the layer that predicts the token after the next too, which come last, and every token's
    hidden state as it enters the head, of which that layer makes them (`PredictionHead`).
    `pages` of a layer are (pages, 2, K, page size, d): what a head attends to in a page is one piece of memory. Slot s
    of page p is number p * page size + s. Zeros at first: what a mask hides must still be finite.
    """

    def __init__(
        self,
        config: ModelConfig,
        num_pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device,
        is_ahead: bool = False,
    ) -> None:
        self.page_size, self.num_kv_heads = page_size, config.num_kv_heads
        shape = (num_pages, 2, config.num_kv_heads, page_size, config.head_dim)
        self.pages = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers + is_ahead)]
        width = config.hidden_size if is_ahead else 0
        self.hidden = torch.zeros(num_pages * page_size, width, dtype=dtype, device=device)
        self.is_ahead = is_ahead
        num_moe = sum(config.layer_is_moe(layer) for layer in range(config.num_layers))
        chosen = (num_pages * page_size, num_moe, config.num_experts_per_token)
        self.experts = torch.zeros(chosen, dtype=torch.int16, device=device)

    @property
    def device(self) -> torch.device:
        return self.experts.device

    def clear(self, pages: Sequence[int]) -> None:
        for layer in self.pages:
            layer[list(pages)] = 0

    def copy(self, pages: Sequence[tuple[int, int]]) -> None:
        """Pages (from, to); all are read before any is written."""
        from_P, to_P = torch.tensor(pages, device=self.device).unbind(dim=1)
        by_slot = (each.unflatten(0, (len(self.pages[0]), self.page_size)) for each in (self.experts, self.hidden))
        for by_page in (*self.pages, *by_slot):
            by_page[to_P] = by_page[from_P]

    @staticmethod
    def bytes_per_token(config: ModelConfig, dtype: torch.dtype, is_ahead: bool = False) -> int:
        in_layers = (config.num_layers + is_ahead) * 2 * config.num_kv_heads * config.head_dim
        return (in_layers + is_ahead * config.hidden_size) * dtype.itemsize

    def lines(self, slots_N: Tensor) -> Tensor:
        """Where tokens lie in a layer seen as lines of d numbers (N * 2 * K): the same in every layer."""
        kinds = torch.arange(2 * self.num_kv_heads, device=slots_N.device)
        page_N1, offset_N1 = (slots_N // self.page_size)[:, None], (slots_N % self.page_size)[:, None]
        return ((page_N1 * len(kinds) + kinds) * self.page_size + offset_N1).flatten()

    def write(self, layer: int, lines: Tensor, kv_N2Kd: Tensor) -> None:
        """Keys and values of N tokens, to where `lines` says."""
        self.pages[layer].view(-1, kv_N2Kd.shape[-1]).index_copy_(0, lines, kv_N2Kd.flatten(0, 2))

    def write_hidden(self, slots_N: Tensor, hidden_ND: Tensor) -> None:
        self.hidden.index_copy_(0, slots_N, hidden_ND.to(self.hidden.dtype))

    def write_experts(self, slots_N: Tensor, experts_NLK: Tensor) -> None:
        self.experts.index_copy_(0, slots_N, experts_NLK.to(torch.int16))

    def read_experts(self, pages: Sequence[int], num_tokens: int) -> np.ndarray:
        """(num_tokens, MoE layers, K) of the tokens in `pages`."""
        index = torch.tensor(pages, device=self.experts.device)
        by_page = self.experts.view(-1, self.page_size, *self.experts.shape[1:])
        return by_page[index].flatten(0, 1)[:num_tokens].cpu().numpy()
