"""What one sequence has become: released text, its tokens with their log-probabilities, and why it ended.

The engine holds text back while it may still be the beginning of a stop string or the first bytes of a character;
tokens are held back with it, so that the tokens of a chunk and its text belong together.
"""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Self

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import StepOutput, TokenLogprobs
from inhouse.engine.text import TextStream

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
    """One token of a sequence, the likeliest at its position, and where its text begins and ends, in characters."""

    chosen: Candidate
    top: list[Candidate]
    start: int
    end: int


class Delta(NamedTuple):
    """What is new in a sequence."""

    text: str
    entries: list[Entry]
    finish_reason: str | None
    stopped_by: str | None = None  # the stop string that it ended at

    @property
    def is_news(self) -> bool:
        return bool(self.text or self.entries or self.finish_reason)

    @classmethod
    def join(cls, deltas: Sequence[Self]) -> Self:
        entries = [entry for delta in deltas for entry in delta.entries]
        last = deltas[-1]
        return cls("".join(delta.text for delta in deltas), entries, last.finish_reason, last.stopped_by)


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
        """`num_top` likeliest tokens a position (None: no log-probabilities at all); `echo` is a prompt to begin with,
        `echo_only` to end with too; `keep_ended` also gives tokens whose text is cut off (end of turn, stop string).
        """
        self.tokenizer, self.num_top, self.keep_ended = tokenizer, num_top, keep_ended
        self.echo, self.echo_only = echo, echo_only
        self.num_tokens = self.num_cached = 0  # of the answer; of the prompt, in the prefix cache
        self._released = self._num_echoed = self._end = 0  # characters
        self._held: deque[Entry] = deque()
        self._ends = array("Q")  # of each token: where its text ends, in characters of the answer

    def take(self, output: StepOutput) -> Delta:
        """The sequence has one more token."""
        text, is_last = "", output.finish_reason is not None
        self.num_cached += output.num_cached
        if self.echo is not None:
            text, self.echo = self._begin(self.echo, output.prompt_logprobs), None
        if not self.echo_only:
            self.num_tokens += 1
            self._ends.append(output.text_end)
            text += output.text
            if self.num_top is not None:
                self._hold(output.token, output.logprobs, self._num_echoed + output.text_end)
        self._released += len(text)
        entries = []
        while self._held and (self._held[0].end <= self._released or is_last):
            entry = self._held.popleft()
            if self.keep_ended or not is_last or entry.start < self._released:
                entries.append(entry)
        return Delta(text, entries, output.finish_reason, output.stopped_by)

    def num_tokens_of(self, characters: int) -> int:
        """How many tokens it took to write so many characters of the answer."""
        return min(bisect_left(self._ends, characters) + 1, self.num_tokens) if characters else 0

    def _begin(self, prompt: list[int], known: Sequence[TokenLogprobs] | None) -> str:
        """The prompt's text; its tokens are held, the first without a log-probability: nothing stands before it."""
        stream = TextStream()
        for position, token in enumerate(prompt):
            stream.push(self.tokenizer.decode_bytes([token]))
            if known is not None:
                self._hold(token, known[position - 1] if position else None, stream.num_characters)
        stream.finish()
        self._num_echoed = len(stream.text)
        return stream.text

    def _hold(self, token: int, known: TokenLogprobs | None, end: int) -> None:
        top = known.top if known is not None else []
        # one number for one token: clients compare the two to see whether the token was the likeliest
        # (the published schema has numbers only: 0 for what is not known adds nothing to a sum)
        logprob = dict(top).get(token, known.logprob if known is not None else 0.0)
        self._held.append(
            Entry(self._candidate(token, logprob), [self._candidate(*pair) for pair in top], self._end, end)
        )
        self._end = end

    def _candidate(self, token: int, logprob: float) -> Candidate:
        return Candidate(self.tokenizer.decode_bytes([token]), max(logprob, LOWEST))
