"""Answers that a grammar bounds: llguidance says before each token which ones may come next.

A grammar is llguidance's JSON text: a list of grammars of which the first is the whole and may name the others
(`@name`). It is data, compiled for the tokenizer of the engine that it is given to.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

import llguidance
import numpy as np
from llguidance import LLMatcher

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine import grammar_trial
from inhouse.engine.schemas import cleaned

# At most one space where JSON allows white space: a model could go on with it for ever.
_JSON = {"whitespace_pattern": " ?"}
_MOST_AT_ONCE = 8  # that are compiled: hostile ones take seconds, and must not take all of a server's threads
_PATIENCE = 2.0  # seconds to wait for a place among them
_KEPT = 32  # compiled grammars
Part = dict[str, Any]  # one of llguidance's grammars


def json_schema(schema: Mapping[str, Any], *, is_lenient: bool = False) -> Part:
    """JSON that a schema accepts, on one line; `is_lenient`: as far as its keywords are known.

    Raises `ValueError` for numbers beyond 2**63.
    """
    return {"json_schema": {**cleaned(schema), "x-guidance": _JSON | {"lenient": is_lenient}}}


def regex(pattern: str) -> Part:
    """What a regular expression (of Rust's regex crate) matches from end to end."""
    found: Part = json.loads(LLMatcher.grammar_from_regex(pattern))["grammars"][0]
    return {"lark_grammar": found["lark_grammar"]}


def choice(texts: Sequence[str]) -> Part:
    """One of these texts."""
    return lark("start: " + " | ".join(map(quoted, texts)))


def quoted(text: str) -> str:
    """A text as a literal of Lark, which knows that one character as an escape only."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def lark(text: str) -> Part:
    """A grammar in llguidance's dialect of Lark's language."""
    return {"lark_grammar": text}


def grammar(whole: Part, **named: Part) -> str:
    """The text that `SamplingParams.grammar` takes; parts with names may be used in the whole as `@name`."""
    return json.dumps({"grammars": [whole, *({"name": name, **part} for name, part in named.items())]})


class BusyError(RuntimeError):
    """Too many grammars are being compiled."""


class Mask(NamedTuple):
    """Which tokens may come next: `bits` (V/32,) int32, the lowest first. `error`: why nobody can say."""

    bits: np.ndarray
    error: str


class Matcher:
    """Follows one answer along its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def mask(self) -> Mask:
        """Takes time, and lets other threads run meanwhile."""
        bits = b"" if self._matcher.is_error() else self._matcher.compute_bitmask()
        return Mask(np.frombuffer(bits, dtype=np.int32), self._matcher.get_error())

    def masks(self, draft: Sequence[int]) -> list[Mask]:
        """Of the next token, and of each that may follow as much of `draft`, which is `allowed`."""
        masks, is_over = [self.mask()], False
        ahead = Matcher(self._matcher.deep_copy()) if draft else self  # what it meets there is forgotten again
        for token in draft:
            is_over = is_over or ahead.take(token)  # then nothing follows, and nobody asks what may
            masks.append(Mask(np.full_like(masks[0].bits, -1), "") if is_over else ahead.mask())
        return masks

    def forced(self) -> list[int]:
        """Tokens that come next where the grammar leaves one text alone, as the tokenizer writes it."""
        return list(self._matcher.compute_ff_tokens())

    def allowed(self, draft: list[int]) -> list[int]:
        """As much of it as the grammar allows."""
        return draft[: self._matcher.validate_tokens(draft)]

    def take(self, token: int) -> bool:
        """Go on by a token that the mask allows; whether the answer is complete and nothing can follow."""
        return bool(self._matcher.consume_token(token)) and self._matcher.is_stopped()


class Grammars:
    """Compiles grammars for one tokenizer, and computes the masks of a step beside it. Safe in several threads."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, ends: Collection[int]) -> None:
        self._tokenizer, self._vocab_size = tokenizer, vocab_size
        self._ends = sorted(end for end in ends if end < vocab_size)
        self._lock, self._places = Lock(), BoundedSemaphore(_MOST_AT_ONCE)
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()  # the last ones asked for
        self._trials: dict[str, Future[None]] = {}  # under way

    def check(self, grammar: str) -> None:
        """Try a stranger's grammar apart and compile it, which may take seconds, so that `matcher` finds it.

        One trial serves all who come with the same grammar meanwhile. Raises as that does, and `BusyError` where too
        many threads are at it.
        """
        if self._find(grammar) is not None:
            return
        own: Future[None] = Future()
        with self._lock:
            trial = self._trials.setdefault(grammar, own)
        if trial is own:
            try:
                self._try(grammar)
                own.set_result(None)
            except BaseException as error:
                own.set_exception(error)
            finally:
                with self._lock:
                    del self._trials[grammar]
        try:
            trial.result(_PATIENCE + 2 * grammar_trial.CPU_SECONDS)
        except TimeoutError:
            raise BusyError from None

    def _try(self, grammar: str) -> None:
        if not self._places.acquire(timeout=_PATIENCE):
            raise BusyError
        try:
            if self._find(grammar) is None:  # a trial of it may have ended just now
                if error := grammar_trial.trial(grammar, self._vocab_size):
                    raise ValueError(_first_line(error))
                self._compiled(grammar)
        finally:
            self._places.release()

    def matcher(self, grammar: str) -> Matcher:
        """For a new answer. Raises `ValueError`, in a sentence, for what is no grammar or one too large to follow."""
        return Matcher(self._compiled(grammar).deep_copy())

    def forget(self, grammar: str) -> None:
        """Compile it anew for the next answer: those of one compilation share the states that they have reached, so
        one that gets to the limit of these leaves none to the others."""
        with self._lock:
            self._kept.pop(grammar, None)

    def _compiled(self, grammar: str) -> LLMatcher:
        found = self._find(grammar) or self._compile(grammar)
        with self._lock:
            self._kept[grammar] = found
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return found

    def _find(self, grammar: str) -> LLMatcher | None:
        with self._lock:
            if grammar in self._kept:
                self._kept.move_to_end(grammar)
            return self._kept.get(grammar)

    def start_masks(self, matchers: Mapping[int, tuple[Matcher, Sequence[int]]]) -> dict[int, Future[list[Mask]]]:
        """The masks of these along their drafts, by the same keys, while whoever asks computes something else."""
        return {key: self._threads.submit(matcher.masks, draft) for key, (matcher, draft) in matchers.items()}

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(os.cpu_count() or 1, 8), "masks")

    @cached_property
    def _vocabulary(self) -> llguidance.LLTokenizer:
        wrapper = llguidance.TokenizerWrapper(_Vocabulary(self._tokenizer, self._vocab_size, self._ends[0]))
        return llguidance.LLTokenizer(wrapper, n_vocab=self._vocab_size, eos_token=self._ends)

    def _compile(self, grammar: str) -> LLMatcher:
        if not self._ends:
            raise ValueError("the model has no token that ends an answer, so no grammar can be followed to its end")
        with self._lock:
            vocabulary = self._vocabulary
        compiled = LLMatcher(vocabulary, grammar, log_level=0, limits=grammar_trial.LIMITS)
        if error := compiled.get_error():
            raise ValueError(_first_line(error))
        allowed = Matcher(compiled).mask()  # also what only the first step finds out
        if allowed.error or not allowed.bits.any():
            raise ValueError(_first_line(allowed.error) or "it allows no answer at all")
        return compiled


def _first_line(error: str) -> str:
    """What llguidance says, without its drawings; its name for a dead end in words."""
    line = error.strip().partition("\n")[0].rstrip(". ")[:300]
    return "it allows no answer at all" if line.startswith("NoExtension") else line


class _Vocabulary:
    """The tokens as llguidance asks for them. Where a grammar leaves one text alone, it calls the tokenizer: the mask
    then is the token that stands for the text in what models are trained on."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end: int) -> None:
        self.eos_token_id, self.special_token_ids = end, sorted(tokenizer.skipped)
        self.tokens = [tokenizer.decode_bytes([token]) for token in range(vocab_size)]
        self._encode = tokenizer.encode

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            raise TypeError("text only")  # the library asks once, and then gives text
        return self._encode(text)
