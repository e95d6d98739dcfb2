"""The forward pass of one step: from what the scheduler chose to the logits of the next tokens.

Shapes as in attention.py; D model width, V vocabulary.
"""

import logging

import numpy as np
import torch
from torch import Tensor

from inhouse.engine.attention import Chunk, Group, PagedAttention
from inhouse.engine.decoding import Decoder
from inhouse.engine.kv_cache import KVCache
from inhouse.engine.request import TokenLogprobs
from inhouse.engine.sampler import likeliest, logprobs_of
from inhouse.engine.scheduler import Scheduled, Sequence
from inhouse.model.compilation import can_compile
from inhouse.model.transformer import Transformer

log = logging.getLogger(__name__)

_COPIED_BYTES = 256 << 20  # of keys and values of decoding sequences that stay copied out of their pages
_GROUP_BYTES = 64 << 20  # of these in one group
_LOGIT_ROWS = 256  # of a prompt at once: logits of a long prompt over a large vocabulary would fill the memory


class ModelRunner:
    """Runs `model` over the pages of `cache`; `table` names those of every running sequence, a row each."""

    def __init__(self, model: Transformer, cache: KVCache, table: np.ndarray, compiles: bool) -> None:
        self.model, self.cache, self.table = model, cache, table
        self.device = model.embed_tokens.weight.device
        self.decoder: Decoder | None = None
        if compiles and can_compile(model, trains=False):
            self.decoder = Decoder(model, cache)
        elif compiles:
            log.warning("torch.compile needs a C++ compiler (g++, clang++ or c++); without one generation is slower")
        self.copies: dict[tuple[int, ...], list[Tensor]] = {}

    def run(self, scheduled: list[Scheduled]) -> tuple[list[Sequence], Tensor, Tensor]:
        """The sequences that are ready for their next token, its fp32 logits (N, V) and their log-sum-exp (N).

        Sequences that want log-probabilities of their prompts, or the sum of its hidden states, have them added.
        """
        # the order that PagedAttention wants: sequences with one new token lead, the shortest first
        scheduled = sorted(scheduled, key=lambda item: (item.num_tokens > 1, item.sequence.num_computed))
        sequences, page_size = [item.sequence for item in scheduled], self.cache.page_size
        tokens = [token for each, n, _ in scheduled for token in each.tokens[each.num_computed :][:n]]
        counts = np.array([item.num_tokens for item in scheduled])
        starts = np.array([sequence.num_computed for sequence in sequences])
        rows = np.array([sequence.row for sequence in sequences]).repeat(counts)
        positions = np.arange(len(tokens)) + (starts - (counts.cumsum() - counts)).repeat(counts)
        slots = self.table[rows, positions // page_size] * page_size + positions % page_size
        tokens_N, slots_N = torch.tensor(tokens, device=self.device), self._tensor(slots)

        num_single = int((counts == 1).sum())
        groups = self._groups(sequences[:num_single])
        # copies are made before the step writes: not while pages are still to be filled for one that is new
        is_decoding = all(
            item.sequence.num_missing == 1 and not item.is_admitted and not item.sequence.params.embed
            for item in scheduled
        )
        if self.decoder is not None and is_decoding and len(groups) == 1 and groups[0].copies is not None:
            logits_NV, log_totals_N, routing = self.decoder(tokens_N, slots_N, groups[0])
        else:
            attend = PagedAttention(self.cache, slots_N, groups, self._chunks(scheduled[num_single:], num_single))
            hidden_BTD, routing = self.model(tokens_N[None], self._tensor(positions)[None], attend)
            sequences, logits_NV = self._logits(scheduled, hidden_BTD[0])
            log_totals_N = logits_NV.logsumexp(dim=-1)
        if routing:
            self.cache.write_experts(slots_N, torch.stack([layer.experts_NK for layer in routing], dim=1))
        return sequences, logits_NV, log_totals_N

    def _groups(self, sequences: list[Sequence]) -> list[Group]:
        """Decoding sequences, shortest first, in groups of bounded memory; copies of the last step live on."""
        page_size, num_heads = self.cache.page_size, self.model.config.num_kv_heads
        page_bytes = page_size * KVCache.bytes_per_token(self.model.config, self.model.dtype)
        groups, end = [], len(sequences)
        copies: dict[tuple[int, ...], list[Tensor]] = {}
        memory = _COPIED_BYTES
        most_bytes = _GROUP_BYTES if self.decoder is None else _COPIED_BYTES  # compiled are steps of one group
        while end:
            num_pages = sequences[end - 1].num_computed // page_size + 1
            start = max(end - max(most_bytes // (num_pages * page_bytes), 1), 0)
            own = sequences[start:end]
            pages_RP = self._tensor(self.table[[sequence.row for sequence in own], :num_pages])
            memory -= pages_RP.numel() * page_bytes
            kept = None
            if memory >= 0:
                key = (num_pages, *(sequence.id for sequence in own))
                kept = copies[key] = self.copies.get(key, [])
            positions = np.array([sequence.num_computed for sequence in own])
            heads = np.arange(2 * len(own) * num_heads).reshape(2, len(own), -1)
            newest = heads * (num_pages * page_size) + positions[:, None]
            groups.append(Group(start, end, self._tensor(positions), pages_RP, self._tensor(newest.reshape(-1)), kept))
            end = start
        self.copies = copies
        return groups

    def _chunks(self, scheduled: list[Scheduled], start: int) -> list[Chunk]:
        """Of sequences with several new tokens; `start`: of the first, in the step's row of tokens."""
        chunks = []
        for sequence, num_tokens, _ in scheduled:
            num_pages = -(-(sequence.num_computed + num_tokens) // self.cache.page_size)
            pages_1P = self._tensor(self.table[None, sequence.row, :num_pages])
            chunks.append(Chunk(start, start + num_tokens, sequence.num_computed, pages_1P))
            start += num_tokens
        return chunks

    def _logits(self, scheduled: list[Scheduled], hidden_ND: Tensor) -> tuple[list[Sequence], Tensor]:
        """The sequences whose last token has been computed, and its logits; prompts are read on the way."""
        ready, lasts, end = [], [], 0
        for sequence, num_tokens, _ in scheduled:
            start, end = end, end + num_tokens
            if sequence.params.prompt_logprobs:
                self._read_prompt(sequence, hidden_ND[start:end])
            if sequence.params.embed:
                _sum_hidden(sequence, hidden_ND[start:end])
            if sequence.num_missing == num_tokens:
                ready.append(sequence)
                lasts.append(end - 1)
        if len(ready) < len(hidden_ND):
            hidden_ND = hidden_ND[torch.tensor(lasts, dtype=torch.int64, device=self.device)]
        return ready, self.model.logits(hidden_ND)

    def _read_prompt(self, sequence: Sequence, hidden_ND: Tensor) -> None:
        """Log-probabilities of the prompt's tokens that these hidden states predict, unless known from before."""
        first = sequence.num_computed  # position of the first hidden state; it predicts the token after it
        skip = max(len(sequence.prompt_logprobs) - first, 0)
        targets = sequence.tokens[first + skip + 1 : min(first + len(hidden_ND) + 1, sequence.num_prompt)]
        for part in range(0, len(targets), _LOGIT_ROWS):
            tokens = targets[part : part + _LOGIT_ROWS]
            logits = self.model.logits(hidden_ND[skip + part : skip + part + len(tokens)])
            logprobs = logprobs_of(logits, logits.logsumexp(dim=-1), torch.tensor(tokens, device=self.device)).tolist()
            tops = likeliest(logits, [sequence.params.logprobs] * len(tokens))
            sequence.prompt_logprobs += [TokenLogprobs(p, 0.0, top) for p, top in zip(logprobs, tops, strict=True)]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def _sum_hidden(sequence: Sequence, hidden_ND: Tensor) -> None:
    """Add these hidden states, of its tokens from `num_computed` on, but those that an earlier pass has added."""
    new_ND = hidden_ND[sequence.num_summed - sequence.num_computed :]
    sequence.hidden_sum = sequence.hidden_sum + new_ND.double().sum(dim=0).cpu().numpy()
    sequence.num_summed += len(new_ND)
