"""Drafts by the model's own layer that predicts the token after the next (DeepSeek-V3, 2024, section 2.2).

It reads a token's embedding and the hidden state of the token before. What it keeps of a token lies in that token's
place of the pages and hangs on nothing behind it, so that whoever finds a page finds that too, and no page is given up
for the sake of drafts. (In the place of the token before, where others keep it, the last of a page hangs on the first
of the next: vLLM issue 50438.) The first token of all has none before it; its place is skipped.

Steps leave the hidden states in the cache, and keys and values are made of them when a draft is wanted, of all tokens
that lack them: a step without drafts pays for nothing. `PrefixCache.num_ahead` counts those that are there.
Shapes: N tokens of a pass, M of them the last of a sequence, D model width, V vocabulary.
"""

import logging
from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inhouse.engine.attention import Chunk, PagedAttention
from inhouse.engine.cache.prefix_cache import PrefixCache
from inhouse.engine.runner import ModelRunner
from inhouse.engine.sampler import likeliest_of, logprobs_of
from inhouse.engine.scheduler import Sequence

log = logging.getLogger(__name__)
_CAUGHT_UP = 512  # tokens of a step: of a long prompt a part each, while nobody drafts for it
_FEW = 8  # tokens of one sequence that attend as if each were a sequence of its own
_SHORT = 128  # tokens that one call of the kernel computes in the least time, as in runner.py
_SURE = 0.4  # what is less likely to be right all through costs more than it brings; a guess, not measured


class Part(NamedTuple):
    """Tokens start..end of a sequence."""

    sequence: Sequence
    start: int
    end: int

    @property
    def num_tokens(self) -> int:
        return self.end - self.start

    @property
    def is_last(self) -> bool:
        return self.end == len(self.sequence.tokens)


class Ahead(NamedTuple):
    """What the layer makes of M sequences: the likeliest token, its probability, and a hidden state to go on from."""

    tokens: list[int]
    chances: list[float]
    hidden_MD: Tensor


class PredictionHead:
    """Drafts what the layer holds for likeliest; further tokens by the layer on its own output, while it is sure."""

    def __init__(self, runner: ModelRunner, pages: PrefixCache) -> None:
        self.runner, self.pages, self.model = runner, pages, runner.model
        assert self.model.mtp is not None and runner.cache.is_ahead
        self.layer = self.model.mtp

    def propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        """Up to so many tokens that may follow each, whose pages have room for them. It never raises."""
        try:
            return self._propose(wanted)
        except Exception:
            log.exception("the layer that drafts failed; this step goes on without drafts")
            for sequence in wanted:  # nobody knows what has been written
                self.pages.num_ahead[sequence.pages] = 0
            return {}

    def _propose(self, wanted: Mapping[Sequence, int]) -> dict[Sequence, list[int]]:
        parts = self._catch_up(wanted)
        ahead = self._read(parts)
        sure = dict.fromkeys((part.sequence for part in parts if part.is_last), 1.0)
        drafts: dict[Sequence, list[int]] = {sequence: [] for sequence in sure}
        while sure:
            rows: list[int] = []
            for row, (sequence, chance) in enumerate(list(sure.items())):
                sure[sequence] = chance * ahead.chances[row]
                if sure[sequence] >= _SURE:
                    drafts[sequence].append(ahead.tokens[row])
                if sure[sequence] < _SURE or len(drafts[sequence]) >= wanted[sequence]:
                    del sure[sequence]
                else:
                    rows.append(row)
            if sure:
                ahead = self._go_on({sequence: drafts[sequence] for sequence in sure}, ahead.hidden_MD[rows])
        return drafts

    def _catch_up(self, wanted: Mapping[Sequence, int]) -> list[Part]:
        """What each lacks, as far as a step has time for it; marked as there, so that who shares it leaves it out."""
        left, parts = _CAUGHT_UP, []
        for sequence in wanted:
            if left:
                start = min(self._first_missing(sequence), len(sequence.tokens) - 1)
                parts.append(Part(sequence, start, min(start + left, len(sequence.tokens))))
                left -= parts[-1].num_tokens
                self._mark(parts[-1])
        return sorted(parts, key=lambda part: part.num_tokens > _FEW)  # the order that PagedAttention wants

    def _first_missing(self, sequence: Sequence) -> int:
        pages, page_size = self.runner.table[sequence.row, : len(sequence.pages)], self.pages.page_size
        counts = self.pages.num_ahead[pages]
        page = int((counts < page_size).argmax())
        return max(page * page_size + int(counts[page]), 1)

    def _mark(self, part: Part) -> None:
        page_size = self.pages.page_size
        for page in range(part.start // page_size, -(-part.end // page_size)):
            self.pages.num_ahead[part.sequence.pages[page]] = min(part.end - page * page_size, page_size)

    def _read(self, parts: list[Part]) -> Ahead:
        """What follows the parts that are the last ones of their sequences."""
        counts = [part.num_tokens for part in parts]
        positions = np.concatenate([np.arange(part.start, part.end) for part in parts])
        rows = np.array([part.sequence.row for part in parts]).repeat(counts)
        before_ND = self.runner.cache.hidden[self.runner.slots(rows, positions - 1)]
        tokens = [*chain.from_iterable(part.sequence.tokens[part.start : part.end] for part in parts)]
        lasts = [end - 1 for part, end in zip(parts, np.cumsum(counts).tolist(), strict=True) if part.is_last]
        many = [part for part in parts if part.num_tokens > _FEW]
        return self._pass(tokens, rows, positions, before_ND, lasts, many)

    def _go_on(self, drafts: Mapping[Sequence, list[int]], hidden_MD: Tensor) -> Ahead:
        """What follows these drafts; `hidden_MD`: what the layer made of the tokens before their last ones."""
        rows = np.array([sequence.row for sequence in drafts])
        positions = np.array([len(sequence.tokens) + len(draft) - 1 for sequence, draft in drafts.items()])
        tokens = [draft[-1] for draft in drafts.values()]
        return self._pass(tokens, rows, positions, hidden_MD, [*range(len(tokens))], [])

    def _pass(
        self,
        tokens: list[int],
        rows: np.ndarray,
        positions: np.ndarray,
        before_ND: Tensor,
        lasts: list[int],
        many: list[Part],
    ) -> Ahead:
        """`many`: the parts that come last, and attend each as one."""
        device = self.runner.device
        tokens_N, lasts_M = (torch.tensor(each, dtype=torch.int64, device=device) for each in (tokens, lasts))
        if self.runner.ahead is not None and len(tokens) <= _SHORT:
            places = self.runner.places(rows, positions)
            logits_MV, log_totals_M, _, hidden_ND = self.runner.ahead(tokens_N, places, lasts_M, before_ND.float())
        else:
            attend, layer = (
                self._attention(rows, positions, many),
                partial(self.layer, next_ND=self.model.embed(tokens_N)),
            )
            positions_1N = torch.from_numpy(positions[None]).to(device)
            hidden_ND, _ = self.model.run([layer], before_ND.to(self.model.dtype), positions_1N, attend)
            logits_MV = self.model.logits(hidden_ND[lasts_M])
            log_totals_M = logits_MV.logsumexp(dim=-1)
        likeliest_M = likeliest_of(logits_MV)
        chances_M = logprobs_of(logits_MV, log_totals_M, likeliest_M).exp()
        return Ahead(likeliest_M.tolist(), chances_M.tolist(), hidden_ND[lasts_M])

    def _attention(self, rows: np.ndarray, positions: np.ndarray, many: list[Part]) -> PagedAttention:
        num_single = len(rows) - sum(part.num_tokens for part in many)
        single = self.runner.places(rows[:num_single], positions[:num_single]) if num_single else None
        chunks, end = [], num_single
        for part in many:
            start, end = end, end + part.num_tokens
            num_pages = -(-part.end // self.pages.page_size)
            pages_1P = torch.from_numpy(self.runner.table[None, part.sequence.row, :num_pages]).to(self.runner.device)
            chunks.append(Chunk(start, end, part.start - 1, pages_1P))
        slots_N = self.runner.slots(rows[num_single:], positions[num_single:])
        return PagedAttention(self.runner.cache, single, slots_N, chunks, skipped=1)
