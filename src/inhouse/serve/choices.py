"""What one sequence has become: released text, its tokens with their log-probabilities, and why it ended.

The engine holds text back while it may still be the beginning of a stop string or the first bytes of a character;
tokens are held back with it, so that the tokens of a chunk and its text belong together.
"""

import codecs
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import StepOutput, TokenLogprobs

LOWEST = -9999.0  # the API's word for "very unlikely"; JSON has no infinity


class Candidate(NamedTuple):
    """A token with its log-probability under the untruncated distribution."""

    raw: bytes
    logprob: float

    @property
    def text(self) -> str:
        """The token as text, or spelled out where its bytes are no text alone: unequal tokens stay unequal keys."""
        try:
            return self.raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.raw)


class Entry(NamedTuple):
    """One token of a sequence, the likeliest in its place, and where its text begins and ends, in characters."""

    chosen: Candidate
    top: list[Candidate]
    start: int
    end: int


class Delta(NamedTuple):
    """What is new in a sequence."""

    text: str
    entries: list[Entry]
    finish_reason: str | None

    @property
    def is_news(self) -> bool:
        return bool(self.text or self.entries or self.finish_reason)


class Choice:
    """Follows one sequence."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        num_top: int | None = None,
        echo: list[int] | None = None,
        echo_only: bool = False,
        keep_ended: bool = False,
    ) -> None:
        """`num_top` likeliest tokens a place (None: no log-probabilities at all); `echo` is a prompt to begin with,
        `echo_only` to end with too; `keep_ended` also gives tokens whose text is cut off (end of turn, stop string).
        """
        self.tokenizer, self.num_top, self.keep_ended = tokenizer, num_top, keep_ended
        self.echo, self.echo_only = echo, echo_only
        self.num_tokens = 0
        self.released = 0  # characters
        self.held: deque[Entry] = deque()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._decoded = 0  # characters

    def take(self, output: StepOutput) -> Delta:
        """The sequence has one more token."""
        text = ""
        if self.echo is not None:
            text, self.echo = self._begin(self.echo, output), None
        if not self.echo_only:
            self.num_tokens += 1
            text += output.text
            if self.num_top is not None:
                self.held.append(self._entry(output.token, output.logprobs))
        self.released += len(text)
        return Delta(text, list(self._release(output.finish_reason is not None)), output.finish_reason)

    def _begin(self, prompt: list[int], output: StepOutput) -> str:
        """Hold the prompt's tokens; the first has no log-probability: nothing stands before it."""
        if self.num_top is not None:
            assert output.prompt_logprobs is not None
            for token, known in zip(prompt, (None, *output.prompt_logprobs), strict=True):
                self.held.append(self._entry(token, known))
        return self.tokenizer.decode(prompt)

    def _release(self, is_last: bool) -> Iterator[Entry]:
        while self.held and (self.held[0].end <= self.released or is_last):
            entry = self.held.popleft()
            if self.keep_ended or not is_last or entry.start < self.released:
                yield entry

    def _entry(self, token: int, known: TokenLogprobs | None) -> Entry:
        start = self._decoded
        self._decoded += len(self._decoder.decode(self.tokenizer.decode_bytes([token])))
        if known is None:
            # the published schema has numbers only here; 0 adds nothing to a sum
            return Entry(self._candidate(token, 0.0), [], start, self._decoded)
        # one number for one token: clients compare the two to see whether the token was the likeliest
        logprob = dict(known.top).get(token, known.logprob)
        top = [self._candidate(*pair) for pair in known.top]
        return Entry(self._candidate(token, logprob), top, start, self._decoded)

    def _candidate(self, token: int, logprob: float) -> Candidate:
        return Candidate(self.tokenizer.decode_bytes([token]), max(logprob, LOWEST))
