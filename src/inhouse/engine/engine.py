"""Generation from the model's own modules: many requests at once, each as if it were alone.

Rollouts, evaluation and serving all go through this engine. It belongs to one thread.
"""

import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Items
from concurrent.futures import Future, wait

import numpy as np
import torch

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.cache.prefix_cache import PrefixCache
from inhouse.engine.decoding import Decoder
from inhouse.engine.drafts.prediction_head import PredictionHead
from inhouse.engine.drafts.speculator import Drafter, Speculator, check_drafter
from inhouse.engine.drafts.verify import drawings_of, num_agreed
from inhouse.engine.grammar import Grammars, Mask
from inhouse.engine.prefill import PrefillBudget
from inhouse.engine.request import (
    Completion,
    Failure,
    FinishReason,
    Kept,
    SamplingParams,
    StepOutput,
    TokenLogprobs,
    check_request,
    checked,
)
from inhouse.engine.runner import ModelRunner
from inhouse.engine.sampler import draw
from inhouse.engine.scheduler import Origin, Scheduled, Scheduler, Sequence
from inhouse.engine.settings import EngineSettings
from inhouse.engine.text import ends_of
from inhouse.model.transformer import Transformer

log = logging.getLogger(__name__)
TOO_COMPLEX = "its grammar is too complex to follow, or leads nowhere"
Drawn = tuple[Sequence, int, TokenLogprobs]


class Engine:
    """Continues prompts with `model`, whose weights it neither copies nor changes.

    What ends an answer, beside what a request names, are `end_ids` and the tokenizer's ends of a document and a turn.
    Raises `ValueError` where the cache is too small for anything, or the model's weights are not as `settings` say.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        settings: EngineSettings | None = None,
        end_ids: Iterable[int] = (),
        drafter: Drafter | None = None,
        max_context: int | None = None,
    ) -> None:
        """`max_context`: tokens of a prompt and its answer, where that is less than the model's context."""
        self.model, self.tokenizer, self.settings = model, tokenizer, settings or EngineSettings()
        check_drafter(self.settings.speculation, model, drafter)
        is_ahead = self.settings.speculation == "mtp"
        if self.settings.weights == "int8" and not model.is_int8:
            raise ValueError("weights = int8, but the model has others: call its pack(to_int8=True) first")
        config, page_size = model.config, self.settings.page_size
        page_bytes = page_size * KVCache.bytes_per_token(config, model.dtype, is_ahead)
        wanted = self.settings.max_sequences * -(-config.max_position // page_size)
        self.num_pages = min(int(self.settings.cache_gib * 2**30) // page_bytes, wanted)
        if self.num_pages * page_size < 2:
            raise ValueError(f"cache_gib = {self.settings.cache_gib} holds no page of {page_bytes} bytes; raise it")
        self.max_context = min(config.max_position, self.num_pages * page_size, max_context or config.max_position)
        device = model.embed_tokens.weight.device
        self._cache = KVCache(config, self.num_pages, page_size, model.dtype, device, is_ahead)
        self._pages = PrefixCache(self.num_pages, page_size)
        self._scheduler = Scheduler(self._pages, self.settings.max_sequences, self.max_context)
        self._budget = PrefillBudget(self.settings.max_prefill, None)
        self._speculator: Speculator | None = None
        self._runner = ModelRunner(model, self._cache, self._scheduler.table, self.settings.compile)
        self._sequences: dict[int, Sequence] = {}
        self._streams: dict[int, deque[StepOutput | Failure]] = {}  # what `stream` has not yielded yet
        self._new_id = itertools.count()
        self._ends, self._special = ends_of(tokenizer, end_ids), tokenizer.skipped  # these are no part of the text
        self.grammars = Grammars(tokenizer, config.vocab_size, self._ends)
        if isinstance(self._runner.decoder, Decoder):
            self._warm_up()
        self._budget = PrefillBudget(self.settings.max_prefill, self.settings.prompt_turn)
        if is_ahead:
            drafter = PredictionHead(self._runner, self._pages)
        if self.settings.speculation != "none":
            most = self.settings.draft_tokens
            self._speculator = Speculator(self._scheduler, most, self.max_context, self._ends, drafter, is_ahead)

    def _warm_up(self) -> None:
        """Compile now what requests would wait for: a step of one sequence, of a few, … of nearly all (see `Experts`).

        Odd numbers, because torch takes sizes that are equal, such as that of the key-value heads, for one.
        """
        for count in (1, 3, 5, 9, (self.settings.max_sequences - 1) | 1):
            self.generate([[0]] * count, SamplingParams(max_tokens=2, temperature=0, ignore_eos=True))
        self.forget_prefixes()

    @property
    def vocab_size(self) -> int:
        return self.model.config.vocab_size

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    @property
    def pages_in_use(self) -> int:
        return self.num_pages - self._pages.num_free

    @property
    def pages_cached(self) -> int:
        """Pages that a prompt may find, in use or not."""
        return self._pages.num_cached

    @property
    def pages_evicted(self) -> int:
        """How often such a page has been given away for want of others."""
        return self._pages.num_evicted

    @property
    def num_drafted(self) -> int:
        """Tokens of drafts that have been verified so far."""
        return 0 if self._speculator is None else self._speculator.num_drafted

    @property
    def num_accepted(self) -> int:
        """Those of them that were drawn: as many steps fewer of a sequence."""
        return 0 if self._speculator is None else self._speculator.num_accepted

    def add(self, prompt: list[int], params: SamplingParams, origin: Origin | None = None) -> int:
        """Queue a request, which is of `origin`, and return its id.

        Raises `ValueError` for a prompt that the model cannot take, and for a grammar that cannot be followed; one that
        `grammars.check` has not seen is compiled now.
        """
        check_request(prompt, params, self.max_context, self.vocab_size)
        seed = secrets.randbits(63) if params.seed is None else params.seed
        matcher = None if params.grammar is None else self.grammars.matcher(params.grammar)
        identity = next(self._new_id)
        sequence = Sequence(identity, prompt, params, seed, origin or Origin(), matcher)
        self._sequences[sequence.id] = sequence
        self._scheduler.waiting.append(sequence)
        return sequence.id

    def abort(self, identity: int) -> Completion | None:
        """End a request now and free its pages. Returns what there is of it, or None if it had ended already."""
        sequence = self._sequences.get(identity)
        if sequence is None:
            return None
        sequence.stream.finish()
        if (
            sequence.num_missing > 1 or not sequence.num_drawn
        ):  # nobody has seen yet whether what is computed are numbers
            self._clear(sequence)
        return self._finish(sequence, "abort")

    def forget_prefixes(self) -> None:
        """Call when the model's weights (of a packed one, the small ones) have changed while nothing runs."""
        assert not self._sequences, "weights must not change while requests run"
        self._pages.forget()
        self._runner.refresh()

    def generate(self, prompts: Items[list[int]], params: SamplingParams | Items[SamplingParams]) -> list[Completion]:
        """Continue all prompts, each with its own `params` where several are given; completions in the same order.

        Raises `RuntimeError` where one of them cannot be computed (`Failure`).
        """
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else params
        done: dict[int, Completion] = {}
        wanted: dict[int, None] = {}  # in order
        try:
            for prompt, own in zip(prompts, each, strict=True):
                wanted[self.add(prompt, own)] = None
            while len(done) < len(wanted):
                for output in self.step():
                    if output.id in wanted and (completion := checked(output).completion) is not None:
                        done[output.id] = completion
        finally:
            for identity in wanted:
                self.abort(identity)
        return [done[identity] for identity in wanted]

    def embed(self, prompts: Items[list[int]]) -> np.ndarray:
        """For each prompt the mean of its last hidden states, normed as they enter the head: (prompts, D) fp32.

        Raises as `generate` does.
        """
        done = self.generate(prompts, SamplingParams(max_tokens=1, temperature=0, embed=True))
        return np.stack([completion.embedding for completion in done if completion.embedding is not None])

    def stream(self, prompt: list[int], params: SamplingParams) -> Iterator[StepOutput]:
        """Continue one prompt, token by token. Several streams may be read in any order; closing one ends its request.

        Raises as `add` and `generate` do.
        """
        request = self.add(prompt, params)
        arrived = self._streams[request] = deque()
        try:
            while True:
                while not arrived:
                    self.step()
                output = checked(arrived.popleft())
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            del self._streams[request]
            self.abort(request)

    @torch.inference_mode()
    def step(self) -> list[StepOutput | Failure]:
        """One forward pass: the next token of every sequence whose turn it is, and part of the prompts that wait.

        Where drafts are verified, several tokens of a sequence, one output each in their order.

        What belongs to a `stream` is kept for it. A sequence that cannot be computed ends with a `Failure`, and the
        others go on. Where nothing can be computed any more it raises: then all requests are gone, the engine is as
        new.
        """
        try:
            is_decoding, start = self._scheduler.is_decoding, time.perf_counter()
            scheduled = self._scheduler.schedule(self._budget.tokens(is_decoding))
            if self._scheduler.copies:
                self._cache.copy(self._scheduler.copies)
            num_prefill = sum(item.num_tokens for item in scheduled if not item.is_decoding)
            if self._speculator is not None:
                scheduled = self._speculator.extend(scheduled)
            failed: dict[int, str] = {}
            drawn = self._advance(scheduled, failed) if scheduled else []
            self._budget.observe(num_prefill, is_decoding, time.perf_counter() - start)
            too_complex = [identity for identity, reason in failed.items() if reason == TOO_COMPLEX]
            outputs: list[StepOutput | Failure] = [self._give_up(each, failed.pop(each)) for each in too_complex]
            if failed:
                drawn, dropped = self._drop(scheduled, drawn, failed)
                outputs += dropped
            # what follows the end of a sequence is dropped
            outputs += [self._append(*new) for new in drawn if new[0].id in self._sequences]
        except BaseException:
            for identity in list(self._sequences):
                self.abort(identity)
            self._pages.forget()  # may have been published and never computed
            for identity, arrived in self._streams.items():
                arrived.append(Failure(identity, "the engine failed"))
            raise
        for output in outputs:
            if output.id in self._streams:
                self._streams[output.id].append(output)
        return [output for output in outputs if output.id not in self._streams]

    def _advance(self, scheduled: list[Scheduled], failed: dict[int, str]) -> list[Drawn]:
        """Tokens drawn by these sequences; what `failed`, by the id of the sequence, is found by halving.

        A pass that is repeated writes the same keys and draws by the same random numbers.
        """
        masks = self._start_masks(scheduled)
        try:
            ready, logits_NV, log_totals_N = self._runner.run(scheduled)
            is_finite_N = log_totals_N.isfinite()
            if not bool(is_finite_N.all()):
                logits_NV = logits_NV.masked_fill(~is_finite_N[:, None], 0.0)  # something to draw, and to drop
            drafts = {item.sequence.id: item.draft for item in scheduled}
            drawings = (
                drawings_of(each, drafts[each.id], masks.get(each.id), self._ends, self.vocab_size) for each in ready
            )
            tokens, logprobs = draw(logits_NV, log_totals_N, list(itertools.chain.from_iterable(drawings)))
        except Exception as error:
            wait(masks.values())  # one thread at a time follows a grammar
            if len(scheduled) > 1:
                middle = len(scheduled) // 2  # in this order: later ones share pages that earlier ones compute
                return self._advance(scheduled[:middle], failed) + self._advance(scheduled[middle:], failed)
            if scheduled[0].draft:
                return self._advance([scheduled[0]._replace(draft=())], failed)
            self._check_alive(error)
            log.exception("a request cannot be computed")
            failed[scheduled[0].sequence.id] = "the computation of it failed; the log says why"
            return []
        for sequence, num_tokens, *_ in scheduled:
            sequence.num_computed += num_tokens
        drawn: list[Drawn] = []
        rows = zip(is_finite_N.tolist(), tokens, logprobs, strict=True)
        for sequence in ready:
            own = list(itertools.islice(rows, len(drafts[sequence.id]) + 1))
            draft = drafts[sequence.id]
            num_right = num_agreed(draft, [token for _, token, _ in own])
            if draft and self._speculator is not None:
                self._speculator.observe(sequence, len(draft), num_right)
            used = masks[sequence.id].result()[: num_right + 1] if sequence.id in masks else []
            if not all(is_finite for is_finite, *_ in own):
                failed[sequence.id] = "the model's output for it is not a number"
            elif why := next((mask.error for mask in used if mask.error), ""):
                log.warning("a grammar cannot be followed: %s", why)
                self.grammars.forget(sequence.params.grammar or "")
                failed[sequence.id] = TOO_COMPLEX
            else:
                drawn += [(sequence, token, known) for _, token, known in own[: num_right + 1]]
        return drawn

    def _start_masks(self, scheduled: list[Scheduled]) -> dict[int, Future[list[Mask]]]:
        """What their grammars allow next, by the id of the sequence, of those that draw tokens in this step."""
        drawing = [item for item in scheduled if item.num_tokens == item.sequence.num_missing]
        bound = {
            item.sequence.id: (item.sequence.matcher, item.draft)
            for item in drawing
            if item.sequence.matcher is not None
        }
        return self.grammars.start_masks(bound) if bound else {}

    def _check_alive(self, error: Exception) -> None:
        """Raise `error` if the model cannot even compute a single token: then it is not the request's fault."""
        first = torch.zeros(1, 1, dtype=torch.int64, device=self._cache.device)
        try:
            self.model(first, first)
        except Exception:
            raise error from None

    def _drop(
        self, scheduled: list[Scheduled], drawn: list[Drawn], failed: dict[int, str]
    ) -> tuple[list[Drawn], list[StepOutput | Failure]]:
        """End what failed. Who was admitted beside it may share pages that it should have filled, and begins again."""
        outputs: list[StepOutput | Failure] = []
        again = {item.sequence.id for item in scheduled if item.is_admitted} & self._sequences.keys() - failed.keys()
        for item in reversed(scheduled):
            if item.sequence.id in again:
                self._scheduler.send_back(item.sequence)
        for identity, reason in failed.items():
            self._clear(self._sequences[identity])
            outputs.append(self._give_up(identity, reason))
        self._pages.forget()  # may have been published and never computed
        return [new for new in drawn if new[0].id not in again], outputs

    def _give_up(self, identity: int, reason: str) -> Failure:
        sequence = self._sequences[identity]
        sequence.stream.finish()
        self._finish(sequence, "abort")
        return Failure(identity, reason, is_asked_for=reason == TOO_COMPLEX)

    def _clear(self, sequence: Sequence) -> None:
        """What a mask hides must still be finite: pages go back without the keys and values of a failure."""
        self._cache.clear(self._pages.unpublish(sequence.pages[sequence.num_found :]))
        sequence.last_node = None

    def _append(self, sequence: Sequence, token: int, logprobs: TokenLogprobs) -> StepOutput:
        sequence.num_computed = len(sequence.tokens)  # those of a draft, before this one, have been with the rest
        sequence.tokens.append(token)
        sequence.logprobs.append(logprobs)
        params, stream, num_drawn = sequence.params, sequence.stream, len(sequence.logprobs)
        reason: FinishReason | None = None
        text = ""
        is_complete = sequence.matcher is not None and sequence.matcher.take(token)
        if token in params.stop_token_ids or (token in self._ends and not params.ignore_eos):
            reason = "stop"
        else:
            is_silent = token in self._special and token not in params.printed_ids
            piece = b"" if is_silent else self.tokenizer.decode_bytes([token])
            if sequence.thinking is not None:
                sequence.thinking.take(piece)
            text = stream.push(piece)
            if stream.stopped_by is not None or is_complete:
                reason = "stop"
            elif num_drawn == params.max_tokens or len(sequence.tokens) == self.max_context or params.embed:
                reason = "length"
        if reason is not None:
            text += stream.finish()
            self._scheduler.publish(sequence, sequence.num_computed)
        prompt_logprobs = sequence.prompt_logprobs if num_drawn == 1 and params.prompt_logprobs else None
        num_cached = (sequence.num_cached or 0) if num_drawn == 1 else 0
        completion = None if reason is None else self._finish(sequence, reason)
        return StepOutput(
            sequence.id, token, text, stream.num_characters, logprobs, num_cached, prompt_logprobs, reason,
            stream.stopped_by, completion,
        )  # fmt: skip

    def _finish(self, sequence: Sequence, reason: FinishReason) -> Completion:
        experts = None
        if sequence.params.experts and self.model.config.is_moe:
            experts = self._cache.read_experts(sequence.pages, sequence.num_computed)
        embedding = None
        if sequence.num_summed == sequence.num_prompt:
            embedding = np.asarray(sequence.hidden_sum / sequence.num_summed, dtype=np.float32)
        kept = [known.kept for known in sequence.logprobs if known.kept is not None]
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
            kept=Kept.of(kept) if sequence.params.kept else None,
            experts=experts,
            embedding=embedding,
        )
