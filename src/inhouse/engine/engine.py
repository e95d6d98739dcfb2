"""Generation from the model's own modules: many requests at once, each as if it were alone.

Rollouts, evaluation and serving all go through this engine. It belongs to one thread.
"""

import itertools
import logging
import secrets
from collections.abc import Sequence as Items
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.attention import Chunk, Group, PagedAttention
from inhouse.engine.decoding import Decoder
from inhouse.engine.kv_cache import KVCache, PageTable
from inhouse.engine.request import Completion, FinishReason, SamplingParams, StepOutput, TokenLogprobs
from inhouse.engine.sampler import draw, likeliest, logprobs_of
from inhouse.engine.scheduler import Scheduled, Scheduler, Sequence
from inhouse.engine.settings import EngineSettings
from inhouse.model.compilation import can_compile
from inhouse.model.moe import Routing
from inhouse.model.transformer import Transformer

log = logging.getLogger(__name__)

_COPIED_BYTES = 256 << 20  # of keys and values of decoding sequences that stay copied out of their pages
_GROUP_BYTES = 64 << 20  # of these in one group
_LOGIT_ROWS = 256  # of a prompt at once: logits of a long prompt over a large vocabulary would fill the memory


class Engine:
    """Continues prompts with `model`, whose weights it neither copies nor changes.

    Raises `ValueError` where the cache is too small for anything.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, settings: EngineSettings | None = None) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings or EngineSettings()
        config, page_size = model.config, self.settings.page_size
        self.device = model.embed_tokens.weight.device
        self._page_bytes = page_bytes = page_size * KVCache.bytes_per_token(config, model.dtype)
        wanted = self.settings.max_sequences * -(-config.max_position // page_size)
        self.num_pages = min(int(self.settings.cache_gib * 2**30) // page_bytes, wanted)
        if self.num_pages * page_size < 2:
            raise ValueError(f"cache_gib = {self.settings.cache_gib} holds no page of {page_bytes} bytes; raise it")
        self.max_context = min(config.max_position, self.num_pages * page_size)
        self._cache = KVCache(config, self.num_pages, page_size, model.dtype, self.device)
        self._pages = PageTable(self.num_pages)
        self._scheduler = Scheduler(
            self._pages, page_size, self.settings.max_sequences, self.settings.max_prefill, self.max_context
        )
        self._sequences: dict[int, Sequence] = {}
        self._copies: dict[tuple[int, ...], list[Tensor]] = {}
        self._decoder = None
        if self.settings.compile and can_compile(model, trains=False):
            self._decoder = Decoder(model, self._cache)
        elif self.settings.compile:
            log.warning("torch.compile needs a C++ compiler (g++, clang++ or c++); without one generation is slower")
        self._new_id = itertools.count()
        self._ends: set[int] = set()
        for name in ("end_of_document", "end_of_turn"):
            with suppress(ValueError):  # other people's tokenizers have one of the two
                self._ends.add(getattr(tokenizer, name))
        if self._decoder is not None:
            self._warm_up()

    def _warm_up(self) -> None:
        """Compile now what requests would wait for: a step of one sequence, of a few, … of nearly all (see `Experts`).

        Odd numbers, because torch takes sizes that are equal, such as that of the key-value heads, for one.
        """
        for count in (1, 3, 5, 9, (self.settings.max_sequences - 1) | 1):
            self.generate([[0]] * count, SamplingParams(max_tokens=2, temperature=0, ignore_eos=True))
        self.forget_prefixes()

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def num_waiting(self) -> int:
        return len(self._scheduler.waiting)

    @property
    def pages_in_use(self) -> int:
        return self.num_pages - self._pages.num_free

    def add(self, prompt: list[int], params: SamplingParams) -> int:
        """Queue a request and return its id. Raises `ValueError` for a prompt that the model cannot take."""
        if not prompt:
            raise ValueError("the prompt is empty; begin with at least the end-of-document token")
        if len(prompt) >= self.max_context:
            raise ValueError(
                f"the prompt has {len(prompt)} tokens and the context {self.max_context}, of which one must be left"
            )
        if not 0 <= min(prompt) <= max(prompt) < self.model.config.vocab_size:
            raise ValueError(f"the prompt has token ids outside 0..{self.model.config.vocab_size - 1}")
        seed = secrets.randbits(63) if params.seed is None else params.seed
        sequence = Sequence(next(self._new_id), prompt, params, seed)
        self._sequences[sequence.id] = sequence
        self._scheduler.add(sequence)
        return sequence.id

    def abort(self, identity: int) -> Completion | None:
        """End a request now and free its pages. Returns what there is of it, or None if it had ended already."""
        sequence = self._sequences.get(identity)
        return None if sequence is None else self._finish(sequence, "abort")

    def forget_prefixes(self) -> None:
        """Call when the model's weights have changed while nothing runs: what is cached no longer fits them."""
        assert not self._sequences, "weights must not change while requests run"
        self._pages.forget()

    def generate(self, prompts: Items[list[int]], params: SamplingParams | Items[SamplingParams]) -> list[Completion]:
        """Continue all prompts, each with its own `params` where several are given; completions in the same order."""
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else params
        done: dict[int, Completion] = {}
        wanted: list[int] = []
        try:
            for prompt, own in zip(prompts, each, strict=True):
                wanted.append(self.add(prompt, own))
            while len(done) < len(wanted):
                done.update((o.id, o.completion) for o in self.step() if o.completion is not None and o.id in wanted)
        finally:
            for identity in wanted:
                self.abort(identity)
        return [done[identity] for identity in wanted]

    @torch.inference_mode()
    def step(self) -> list[StepOutput]:
        """One forward pass: the next token of every sequence whose turn it is, and part of the prompts that wait.

        Where it fails, all requests are gone and the engine is as new.
        """
        try:
            # the order that PagedAttention wants: sequences with one new token lead, the shortest first
            order = lambda item: (item.num_tokens > 1, item.sequence.num_computed)  # noqa: E731
            scheduled = sorted(self._scheduler.schedule(), key=order)
            return self._compute(scheduled) if scheduled else []
        except BaseException:
            for identity in list(self._sequences):
                self.abort(identity)
            self._pages.forget()  # pages were published that have not been computed
            self._copies = {}
            raise

    def _compute(self, scheduled: list[Scheduled]) -> list[StepOutput]:
        num_single = sum(item.num_tokens == 1 for item in scheduled)
        groups = self._groups([item.sequence for item in scheduled[:num_single]])
        # copies are made before the step writes: not while pages are still to be filled for one that is new
        is_decoding = all(item.sequence.num_missing == 1 and not item.is_admitted for item in scheduled)
        if self._decoder is not None and is_decoding and len(groups) == 1 and groups[0].copies is not None:
            sequences = [item.sequence for item in scheduled]
            logits_NV, log_totals_N = self._decode(self._decoder, sequences, groups[0])
        else:
            sequences, logits_NV = self._forward(scheduled, groups)
            log_totals_N = logits_NV.logsumexp(dim=-1)
        if not sequences:
            return []
        tokens, logprobs = draw(
            logits_NV,
            log_totals_N,
            [sequence.params for sequence in sequences],
            [sequence.seed for sequence in sequences],
            [len(sequence.tokens) - sequence.num_prompt for sequence in sequences],
        )
        return [self._append(*new) for new in zip(sequences, tokens, logprobs, strict=True)]

    def _decode(self, decoder: Decoder, sequences: list[Sequence], group: Group) -> tuple[Tensor, Tensor]:
        """Logits (N, V) and their log-sum-exp (N) of a step in which every sequence has one new token."""
        places = np.array([sequence.place for sequence in sequences])
        slots_N = self._slots(places, np.array([sequence.num_computed for sequence in sequences]))
        tokens_N = torch.tensor([sequence.tokens[-1] for sequence in sequences], device=self.device)
        logits_NV, log_totals_N, routings = decoder(tokens_N, slots_N, group)
        self._write_experts(slots_N, routings)
        for sequence in sequences:
            sequence.num_computed += 1
        return logits_NV, log_totals_N

    def _forward(self, scheduled: list[Scheduled], groups: list[Group]) -> tuple[list[Sequence], Tensor]:
        """The sequences that are ready for their next token, and its logits (N, V)."""
        hidden_ND = self._hidden(scheduled, groups)
        lasts = np.cumsum([item.num_tokens for item in scheduled]) - 1
        for (sequence, num_tokens, _), last in zip(scheduled, lasts.tolist(), strict=True):
            if sequence.params.prompt_logprobs:
                self._read_prompt(sequence, hidden_ND[last + 1 - num_tokens : last + 1])
            sequence.num_computed += num_tokens
        ready = [i for i, (sequence, _, _) in enumerate(scheduled) if sequence.num_missing == 0]
        if len(ready) < len(hidden_ND):
            hidden_ND = hidden_ND[torch.from_numpy(lasts[ready]).to(self.device)]
        return [scheduled[i].sequence for i in ready], self.model.logits(hidden_ND)

    def _hidden(self, scheduled: list[Scheduled], groups: list[Group]) -> Tensor:
        """Final hidden states (N, D) of the step's tokens, in the order of `scheduled`."""
        page_size, table = self.settings.page_size, self._scheduler.table
        counts = [item.num_tokens for item in scheduled]
        starts = np.array([item.sequence.num_computed for item in scheduled])
        places = np.array([item.sequence.place for item in scheduled])
        tokens = [token for sequence, n, _ in scheduled for token in sequence.tokens[sequence.num_computed :][:n]]
        positions = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, counts, strict=True)])
        owners = places.repeat(counts)
        slots_N = self._slots(owners, positions)
        first = num_single = counts.count(1)
        chunks = []
        for place, past, count in zip(places[num_single:], starts[num_single:], counts[num_single:], strict=True):
            pages_1P = self._tensor(table[None, place, : -(-(past + count) // page_size)])
            chunks.append(Chunk(first, first + count, int(past), pages_1P))
            first += count
        attend = PagedAttention(self._cache, slots_N, groups, chunks)
        out = self.model(torch.tensor([tokens], device=self.device), self._tensor(positions)[None], attend)
        self._write_experts(slots_N, out.routing)
        return out.hidden_BTD[0]

    def _slots(self, places: np.ndarray, positions: np.ndarray) -> Tensor:
        """Where the cache keeps tokens: those at `positions` of the sequences in `places`."""
        page_size = self.settings.page_size
        pages = self._scheduler.table[places, positions // page_size]
        return self._tensor(pages * page_size + positions % page_size)

    def _write_experts(self, slots_N: Tensor, routings: list[Routing]) -> None:
        if routings:
            self._cache.write_experts(slots_N, torch.stack([routing.experts_NK for routing in routings], dim=1))

    def _groups(self, sequences: list[Sequence]) -> list[Group]:
        """Decoding sequences, shortest first, in groups of bounded memory; copies of the last step live on."""
        table, page_size = self._scheduler.table, self.settings.page_size
        groups, end = [], len(sequences)
        copies: dict[tuple[int, ...], list[Tensor]] = {}
        memory = _COPIED_BYTES
        most_bytes = _GROUP_BYTES if self._decoder is None else _COPIED_BYTES  # compiled are steps of one group
        while end:
            num_pages = sequences[end - 1].num_computed // page_size + 1
            start = max(end - max(most_bytes // (num_pages * self._page_bytes), 1), 0)
            own = sequences[start:end]
            pages_RP = self._tensor(table[[sequence.place for sequence in own], :num_pages])
            memory -= pages_RP.numel() * self._page_bytes
            kept = None
            if memory >= 0:
                key = (num_pages, *(sequence.id for sequence in own))
                kept = copies[key] = self._copies.get(key, [])
            positions = np.array([sequence.num_computed for sequence in own])
            heads = np.arange(2 * len(own) * self.model.config.num_kv_heads).reshape(2, len(own), -1)
            newest = heads * (num_pages * page_size) + positions[:, None]
            groups.append(Group(start, end, self._tensor(positions), pages_RP, self._tensor(newest.reshape(-1)), kept))
            end = start
        self._copies = copies
        return groups

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)

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

    def _append(self, sequence: Sequence, token: int, logprobs: TokenLogprobs) -> StepOutput:
        sequence.tokens.append(token)
        sequence.logprobs.append(logprobs)
        params, is_first = sequence.params, len(sequence.logprobs) == 1
        reason: FinishReason | None = None
        text = ""
        if token in params.stop_token_ids or (token in self._ends and not params.ignore_eos):
            reason = "stop"
        else:
            text = sequence.stream.push(self.tokenizer.decode_bytes([token]))
            if sequence.stream.is_stopped:
                reason = "stop"
            elif len(sequence.logprobs) == params.max_tokens or len(sequence.tokens) == self.max_context:
                reason = "length"
        if reason is not None:
            text += sequence.stream.finish()
        prompt_logprobs = sequence.prompt_logprobs if is_first and params.prompt_logprobs else None
        completion = None if reason is None else self._finish(sequence, reason)
        return StepOutput(sequence.id, token, text, logprobs, prompt_logprobs, reason, completion)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> Completion:
        if reason == "abort":
            sequence.stream.finish()
        experts = None
        if sequence.params.experts and self.model.config.is_moe:
            experts = self._cache.read_experts(sequence.pages, sequence.num_computed)
        self._scheduler.remove(sequence)
        del self._sequences[sequence.id]
        return Completion(
            id=sequence.id,
            token_ids=sequence.tokens[sequence.num_prompt :],
            text=sequence.stream.text,
            finish_reason=reason,
            logprobs=[known.logprob for known in sequence.logprobs],
            sampling_logprobs=[known.sampling_logprob for known in sequence.logprobs],
            top_logprobs=[known.top for known in sequence.logprobs],
            prompt_logprobs=sequence.prompt_logprobs if sequence.params.prompt_logprobs else None,
            experts=experts,
        )
