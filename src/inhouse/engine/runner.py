"""The forward pass of one step: from what the scheduler chose to the logits of the next tokens.

Shapes as in attention.py; D model width, V vocabulary.
"""

import logging
from itertools import chain, compress

import numpy as np
import torch
from torch import Tensor

from inhouse.engine.attention import Chunk, PagedAttention
from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.cpu import decode_step
from inhouse.engine.cpu import paged_attention as cpu
from inhouse.engine.cpu.decode_step import NativeDecoder
from inhouse.engine.decoding import Decoder
from inhouse.engine.paged_attention import Places
from inhouse.engine.request import TokenLogprobs
from inhouse.engine.sampler import likeliest, logprobs_of
from inhouse.engine.scheduler import Scheduled, Sequence
from inhouse.model.compilation import can_compile
from inhouse.model.transformer import Transformer

log = logging.getLogger(__name__)

_SHORT = 128  # tokens (LOG.md, 2026-11-30)
_LOGIT_ROWS = 256  # of a prompt at once: logits of a long prompt over a large vocabulary would fill the memory


class ModelRunner:
    """Runs `model` over the pages of `cache`; `table` names those of every running sequence, a row each."""

    def __init__(self, model: Transformer, cache: KVCache, table: np.ndarray, compiles: bool) -> None:
        self.model, self.cache, self.table = model, cache, table
        self.device = model.embed_tokens.weight.device
        cpu.is_there(cache.pages[0])  # compiled now, where it has to be, not in the first request
        self.decoder: Decoder | NativeDecoder | None = None
        self.ahead: NativeDecoder | None = None
        if decode_step.is_there(model):
            self.decoder = NativeDecoder(model, cache.pages)
            self.ahead = NativeDecoder(model, cache.pages, is_ahead=True) if cache.is_ahead else None
        elif compiles and can_compile(model, trains=False) and not model.is_in_own_layout:
            self.decoder = Decoder(model, cache)
        elif compiles and not model.is_in_own_layout:
            log.warning("torch.compile needs a C++ compiler (g++, clang++ or c++); without one generation is slower")

    def refresh(self) -> None:
        """The model's weights have changed."""
        for decoder in (self.decoder, self.ahead):
            if isinstance(decoder, NativeDecoder):
                decoder.refresh()

    def run(self, scheduled: list[Scheduled]) -> tuple[list[Sequence], Tensor, Tensor]:
        """The sequences that are ready for their next token, its fp32 logits (N, V) and their log-sum-exp (N).

        After the row of a sequence come those of the tokens that follow its draft, one for each of the draft.

        Sequences that want log-probabilities of their prompts, or the sum of its hidden states, have them added.
        """
        if isinstance(self.decoder, NativeDecoder) and _is_short(scheduled):
            return self._native(self.decoder, scheduled)
        if isinstance(self.decoder, Decoder) and all(item.is_decoding for item in scheduled):
            return self._decode(self.decoder, scheduled)
        return self._mixed(scheduled)  # beside a prompt decoding costs next to nothing: the weights are read anyway

    def _native(self, decoder: NativeDecoder, scheduled: list[Scheduled]) -> tuple[list[Sequence], Tensor, Tensor]:
        """A pass by one call: every token attends as if it were a sequence of its own."""
        tokens_N, rows, positions, counts = self._rows(scheduled)
        ready = [item.num_tokens == item.sequence.num_missing for item in scheduled]
        wanted = [
            range(end - 1 - len(item.draft), end)
            for item, end, is_ready in zip(scheduled, counts.cumsum().tolist(), ready, strict=True)
            if is_ready
        ]
        wanted_M = torch.tensor([*chain.from_iterable(wanted)], dtype=torch.int64)
        logits_MV, log_totals_M, experts, hidden_ND = decoder(tokens_N, self.places(rows, positions), wanted_M)
        self._keep(rows, positions, experts, hidden_ND)
        return [item.sequence for item in compress(scheduled, ready)], logits_MV, log_totals_M

    def _decode(self, decoder: Decoder, scheduled: list[Scheduled]) -> tuple[list[Sequence], Tensor, Tensor]:
        """A pass of one new token each, and drafts, compiled."""
        tokens_N, rows, positions, _ = self._rows(scheduled)
        logits_NV, log_totals_N, experts, hidden_ND = decoder(tokens_N, self.places(rows, positions))
        self._keep(rows, positions, experts, hidden_ND)
        return [item.sequence for item in scheduled], logits_NV, log_totals_N

    def _rows(self, scheduled: list[Scheduled]) -> tuple[Tensor, np.ndarray, np.ndarray, np.ndarray]:
        """The step's tokens, whose they are (rows of the table), their positions, and how many each sequence has."""
        tokens = [item.tokens for item in scheduled]
        counts = np.array([len(each) for each in tokens])
        starts = np.array([item.sequence.num_computed for item in scheduled])
        rows = np.array([item.sequence.row for item in scheduled]).repeat(counts)
        positions = np.arange(len(rows)) + (starts - (counts.cumsum() - counts)).repeat(counts)
        return torch.tensor([*chain.from_iterable(tokens)], device=self.device), rows, positions, counts

    def places(self, rows: np.ndarray, positions: np.ndarray) -> Places:
        """Of these positions of the sequences in these rows of the table."""
        return Places(self._tensor(self.table), self._tensor(rows), self._tensor(positions))

    def slots(self, rows: np.ndarray, positions: np.ndarray) -> Tensor:
        """Rows of the cache that hold these positions of the sequences in these rows of the table."""
        pages, offsets = self.table[rows, positions // self.cache.page_size], positions % self.cache.page_size
        return self._tensor(pages * self.cache.page_size + offsets)

    def _mixed(self, scheduled: list[Scheduled]) -> tuple[list[Sequence], Tensor, Tensor]:
        """A pass of the model as it is: one or several new tokens each, and drafts."""
        scheduled = sorted(scheduled, key=lambda item: item.num_tokens > 1)  # the order that PagedAttention wants
        num_singles, decoding = sum(item.num_tokens == 1 for item in scheduled), None
        tokens_N, rows, positions, counts = self._rows(scheduled)
        slots_N = self.slots(rows, positions)
        num_single = int(counts[:num_singles].sum())  # rows: a draft's attend as if each were a sequence of its own
        if num_single:
            decoding = self.places(rows[:num_single], positions[:num_single])
        chunks = self._chunks(scheduled[num_singles:], num_single)
        attend = PagedAttention(self.cache, decoding, slots_N[num_single:], chunks)
        out = self.model(tokens_N[None], self._tensor(positions)[None], attend)
        ready, logits_NV = self._logits(scheduled, out.hidden_BTD[0])
        self._keep(rows, positions, [layer.experts_NK for layer in out.routing], out.hidden_BTD[0])
        return ready, logits_NV, logits_NV.logsumexp(dim=-1)

    def _keep(self, rows: np.ndarray, positions: np.ndarray, experts: list[Tensor], hidden_ND: Tensor) -> None:
        """What later steps, or who asked, read of these tokens; `experts`: of every layer that has some, (N, K)."""
        if experts or self.cache.is_ahead:
            slots_N = self.slots(rows, positions)
            if experts:
                self.cache.write_experts(slots_N, torch.stack(experts, dim=1))
            if self.cache.is_ahead:
                self.cache.write_hidden(slots_N, hidden_ND)

    def _chunks(self, scheduled: list[Scheduled], start: int) -> list[Chunk]:
        """Of sequences with several new tokens; `start`: of the first, in the step's row of tokens."""
        chunks = []
        for sequence, num_tokens, *_ in scheduled:
            num_pages = -(-(sequence.num_computed + num_tokens) // self.cache.page_size)
            pages_1P = self._tensor(self.table[None, sequence.row, :num_pages])
            chunks.append(Chunk(start, start + num_tokens, sequence.num_computed, pages_1P))
            start += num_tokens
        return chunks

    def _logits(self, scheduled: list[Scheduled], hidden_ND: Tensor) -> tuple[list[Sequence], Tensor]:
        """The sequences whose last token has been computed, and its logits; prompts are read on the way."""
        ready: list[Sequence] = []
        lasts: list[int] = []
        end = 0
        for sequence, num_tokens, _, draft in scheduled:
            start, end = end, end + num_tokens + len(draft)
            if sequence.params.prompt_logprobs:
                self._read_prompt(sequence, hidden_ND[start:end])
            if sequence.params.embed:
                _sum_hidden(sequence, hidden_ND[start:end])
            if sequence.num_missing == num_tokens:
                ready.append(sequence)
                lasts += range(end - 1 - len(draft), end)
        if len(lasts) < len(hidden_ND):
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


def _is_short(scheduled: list[Scheduled]) -> bool:
    """Whether one call computes the step in the least time: few tokens, none of them deep in a prompt, where those of
    a chunk together read what is before them once."""
    if all(item.is_decoding for item in scheduled):
        return True
    chunks = [item for item in scheduled if item.num_tokens > 1]
    return (
        sum(len(item.tokens) for item in scheduled) <= _SHORT
        and sum(item.num_tokens * (item.sequence.num_computed + item.num_tokens) for item in chunks) <= _SHORT**2
        and not any(item.sequence.params.prompt_logprobs or item.sequence.params.embed for item in scheduled)
    )


def _sum_hidden(sequence: Sequence, hidden_ND: Tensor) -> None:
    """Add these hidden states, of its tokens from `num_computed` on, but those that an earlier pass has added."""
    new_ND = hidden_ND[sequence.num_summed - sequence.num_computed :]
    sequence.hidden_sum = sequence.hidden_sum + new_ND.double().sum(dim=0).cpu().numpy()
    sequence.num_summed += len(new_ND)
