"""Keys and values in pages of fixed size, shared between requests that begin alike (PagedAttention, Kwon et al. 2023).

A page is shared only when it is full, so nobody ever writes into somebody else's page and nothing is copied on write.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inhouse.model.config import ModelConfig


def page_hashes(tokens: Sequence[int], page_size: int, known: list[bytes]) -> None:
    """Extend `known` to every full page of `tokens`: the hash of a page covers all tokens up to its end."""
    for page in range(len(known), len(tokens) // page_size):
        content = np.array(tokens[page * page_size : (page + 1) * page_size], dtype=np.int64).tobytes()
        known.append(hashlib.blake2b((known[-1] if known else b"") + content, digest_size=16).digest())


class PageTable:
    """Who holds which page: reference counts, free pages, and full pages found again by their hash.

    A free page keeps its content and hash until it is given out again, the longest unused first.
    """

    def __init__(self, num_pages: int) -> None:
        self._references = [0] * num_pages
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_pages))
        self._page_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    def find(self, hashes: Sequence[bytes]) -> list[int]:
        """The longest run of known pages from the beginning; nothing is taken yet."""
        pages = []
        for key in hashes:
            if (page := self._page_of.get(key)) is None:
                break
            pages.append(page)
        return pages

    def is_free(self, page: int) -> bool:
        return self._references[page] == 0

    def share(self, pages: Sequence[int]) -> None:
        """Take a reference to pages that `find` gave."""
        for page in pages:
            if self._references[page] == 0:
                del self._free[page]
            self._references[page] += 1

    def take(self) -> int:
        """A page for oneself. There must be a free one."""
        page, _ = self._free.popitem(last=False)
        assert self._references[page] == 0
        self._references[page] = 1
        if (key := self._hash_of.pop(page, None)) is not None:
            del self._page_of[key]
        return page

    def publish(self, page: int, key: bytes) -> None:
        """A full page may be found from now on (where an equal one is known already, that one stays)."""
        if key not in self._page_of and page not in self._hash_of:
            self._page_of[key], self._hash_of[page] = page, key

    def unpublish(self, pages: Sequence[int]) -> list[int]:
        """Those that nobody else shares, and that nobody finds any more from now on."""
        alone = [page for page in pages if self._references[page] == 1]
        for page in alone:
            if (key := self._hash_of.pop(page, None)) is not None:
                del self._page_of[key]
        return alone

    def release(self, pages: Sequence[int]) -> None:
        """Give references back; of a sequence's pages the later ones are given out again first."""
        for page in reversed(pages):
            self._references[page] -= 1
            assert self._references[page] >= 0
            if self._references[page] == 0:
                self._free[page] = None

    def forget(self) -> None:
        """No page is found any more: the weights changed, or contents are in doubt."""
        self._page_of.clear()
        self._hash_of.clear()


class KVCache:
    """The memory behind the pages: keys and values of every layer, and the experts chosen where there are any.

    `pages` of a layer are (pages, 2, K, page size, d): what a head attends to in a page is one piece of memory. Slot s
    of page p is number p * page size + s. Zeros at first: what a mask hides must still be finite.
    """

    def __init__(self, config: ModelConfig, num_pages: int, page_size: int, dtype: torch.dtype, device: torch.device):
        self.page_size, self.num_kv_heads = page_size, config.num_kv_heads
        shape = (num_pages, 2, config.num_kv_heads, page_size, config.head_dim)
        self.pages = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        num_moe = sum(config.layer_is_moe(layer) for layer in range(config.num_layers))
        chosen = (num_pages * page_size, num_moe, config.num_experts_per_token)
        self.experts = torch.zeros(chosen, dtype=torch.int16, device=device)

    @property
    def device(self) -> torch.device:
        return self.experts.device

    def clear(self, pages: Sequence[int]) -> None:
        for layer in self.pages:
            layer[list(pages)] = 0

    @staticmethod
    def bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
        return config.num_layers * 2 * config.num_kv_heads * config.head_dim * dtype.itemsize

    def lines(self, slots_N: Tensor) -> Tensor:
        """Where tokens lie in a layer seen as lines of d numbers (N * 2 * K): the same in every layer."""
        kinds = torch.arange(2 * self.num_kv_heads, device=slots_N.device)
        page_N1, offset_N1 = (slots_N // self.page_size)[:, None], (slots_N % self.page_size)[:, None]
        return ((page_N1 * len(kinds) + kinds) * self.page_size + offset_N1).flatten()

    def write(self, layer: int, lines: Tensor, kv_N2Kd: Tensor) -> None:
        """Keys and values of N tokens, to where `lines` says."""
        self.pages[layer].view(-1, kv_N2Kd.shape[-1]).index_copy_(0, lines, kv_N2Kd.flatten(0, 2))

    def write_experts(self, slots_N: Tensor, experts_NLK: Tensor) -> None:
        self.experts.index_copy_(0, slots_N, experts_NLK.to(torch.int16))

    def read_experts(self, pages: Sequence[int], num_tokens: int) -> np.ndarray:
        """(num_tokens, MoE layers, K) of the tokens in `pages`."""
        index = torch.tensor(pages, device=self.experts.device)
        by_page = self.experts.view(-1, self.page_size, *self.experts.shape[1:])
        return by_page[index].flatten(0, 1)[:num_tokens].cpu().numpy()
