"""Generation from the model's own modules: many requests at once, each as if it were alone.

Rollouts, evaluation and serving all go through this engine. It belongs to one thread.
"""

import itertools
import secrets
from collections.abc import Sequence as Items
from contextlib import suppress

import torch

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.kv_cache import KVCache, PageTable
from inhouse.engine.request import Completion, FinishReason, SamplingParams, StepOutput, TokenLogprobs
from inhouse.engine.runner import ModelRunner
from inhouse.engine.sampler import draw
from inhouse.engine.scheduler import Scheduler, Sequence
from inhouse.engine.settings import EngineSettings
from inhouse.model.transformer import Transformer


class Engine:
    """Continues prompts with `model`, whose weights it neither copies nor changes.

    Raises `ValueError` where the cache is too small for anything.
    """

    def __init__(self, model: Transformer, tokenizer: Tokenizer, settings: EngineSettings | None = None) -> None:
        self.model, self.tokenizer, self.settings = model, tokenizer, settings or EngineSettings()
        config, page_size = model.config, self.settings.page_size
        page_bytes = page_size * KVCache.bytes_per_token(config, model.dtype)
        wanted = self.settings.max_sequences * -(-config.max_position // page_size)
        self.num_pages = min(int(self.settings.cache_gib * 2**30) // page_bytes, wanted)
        if self.num_pages * page_size < 2:
            raise ValueError(f"cache_gib = {self.settings.cache_gib} holds no page of {page_bytes} bytes; raise it")
        self.max_context = min(config.max_position, self.num_pages * page_size)
        self._cache = KVCache(config, self.num_pages, page_size, model.dtype, model.embed_tokens.weight.device)
        self._pages = PageTable(self.num_pages)
        self._scheduler = Scheduler(
            self._pages, page_size, self.settings.max_sequences, self.settings.max_prefill, self.max_context
        )
        self._runner = ModelRunner(model, self._cache, self._scheduler.table, self.settings.compile)
        self._sequences: dict[int, Sequence] = {}
        self._new_id = itertools.count()
        self._ends: set[int] = set()
        for name in ("end_of_document", "end_of_turn"):
            with suppress(ValueError):  # other people's tokenizers have one of the two
                self._ends.add(getattr(tokenizer, name))
        if self._runner.decoder is not None:
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
        self._scheduler.waiting.append(sequence)
        return sequence.id

    def abort(self, identity: int) -> Completion | None:
        """End a request now and free its pages. Returns what there is of it, or None if it had ended already."""
        sequence = self._sequences.get(identity)
        if sequence is None:
            return None
        sequence.stream.finish()
        return self._finish(sequence, "abort")

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
            scheduled = self._scheduler.schedule()
            if not scheduled:
                return []
            ready, logits_NV, log_totals_N = self._runner.run(scheduled)
            for sequence, num_tokens, _ in scheduled:
                sequence.num_computed += num_tokens
            if not ready:
                return []
            tokens, logprobs = draw(
                logits_NV,
                log_totals_N,
                [sequence.params for sequence in ready],
                [sequence.seed for sequence in ready],
                [len(sequence.tokens) - sequence.num_prompt for sequence in ready],
            )
            return [self._append(*new) for new in zip(ready, tokens, logprobs, strict=True)]
        except BaseException:
            for identity in list(self._sequences):
                self.abort(identity)
            self._pages.forget()  # pages were published that have not been computed
            self._runner.copies = {}
            raise

    def _append(self, sequence: Sequence, token: int, logprobs: TokenLogprobs) -> StepOutput:
        sequence.tokens.append(token)
        sequence.logprobs.append(logprobs)
        params, stream, num_drawn = sequence.params, sequence.stream, len(sequence.logprobs)
        reason: FinishReason | None = None
        text = ""
        if token in params.stop_token_ids or (token in self._ends and not params.ignore_eos):
            reason = "stop"
        else:
            text = stream.push(self.tokenizer.decode_bytes([token]))
            if stream.is_stopped:
                reason = "stop"
            elif num_drawn == params.max_tokens or len(sequence.tokens) == self.max_context:
                reason = "length"
        if reason is not None:
            text += stream.finish()
        prompt_logprobs = sequence.prompt_logprobs if num_drawn == 1 and params.prompt_logprobs else None
        completion = None if reason is None else self._finish(sequence, reason)
        return StepOutput(
            sequence.id, token, text, stream.num_characters, logprobs, prompt_logprobs, reason, completion
        )

    def _finish(self, sequence: Sequence, reason: FinishReason) -> Completion:
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
