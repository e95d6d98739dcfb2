"""From tokens to text while they come: whole characters only, and nothing that may still become a stop string."""

import codecs
from collections.abc import Iterable
from contextlib import suppress

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import ThinkingLimit


class TextStream:
    """Decodes the bytes of tokens as UTF-8 and ends at the first stop string, wherever token borders fall.

    Bytes that are no UTF-8 come out as U+FFFD. `num_characters` counts what has been decoded so far, held back or not:
    where the text of the newest token ends.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = stop
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._parts: list[str] = []
        self.num_characters = 0
        self.stopped_by: str | None = None  # the stop string that ended it

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def push(self, piece: bytes) -> str:
        """Take the bytes of one more token; return the text that is certain now."""
        new = self._decoder.decode(piece)
        self.num_characters += len(new)
        self._held += new
        if found := [(at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]:
            at, self.stopped_by = min(found, key=lambda place: place[0])
            self._decoder.reset()
            self._held = self._held[:at]
            return self.finish()
        certain = len(self._held) - self._possible_stop()
        text, self._held = self._held[:certain], self._held[certain:]
        self._parts.append(text)
        return text

    def finish(self) -> str:
        """No more tokens come: return what was held back."""
        text = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        self._parts.append(text)
        return text

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string, the first bytes of a character too."""
        pending, _ = self._decoder.getstate()
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]) and stop[length].encode().startswith(pending):
                    longest = length
                    break
        return longest


class Thinking:
    """Follows the thinking of one answer, and forces its end, token by token, where its budget is spent.

    A character that a token has begun is ended first. The forced tokens are drawn like others, from a mask that leaves
    one (`sampler.only`): log-probabilities, grammars and stop strings see nothing special in them.
    """

    def __init__(self, limit: ThinkingLimit) -> None:
        self._limit = limit
        self._state = "thinking" if limit.is_open else "start"
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""  # what may still become a mark
        self._num_tokens = self._num_forced = 0

    def take(self, piece: bytes) -> None:
        """The answer goes on by a token of these bytes."""
        if self._state == "over":
            return
        if self._num_forced or self.forced is not None:
            self._num_forced += 1
            if self._num_forced == len(self._limit.end_ids):
                self._state = "over"
            return
        self._held += self._decoder.decode(piece)
        if self._state == "thinking":
            self._num_tokens += 1
        else:
            begun = self._held.lstrip()
            if begun.startswith(self._limit.opening):
                self._state, self._held = "thinking", begun.removeprefix(self._limit.opening)
            elif not self._limit.opening.startswith(begun):
                self._state = "over"
                return
        if self._state == "thinking":
            if self._limit.closing in self._held:
                self._state = "over"
            self._held = self._held[-len(self._limit.closing) :]

    @property
    def is_over(self) -> bool:
        return self._state == "over"

    @property
    def forced(self) -> int | None:
        """The token that must come next; None: any may."""
        if self._num_forced < len(self._limit.end_ids) and (self._num_forced or self._is_due):
            return self._limit.end_ids[self._num_forced]
        return None

    @property
    def _is_due(self) -> bool:
        is_spent = self._state == "thinking" and self._num_tokens >= self._limit.budget
        return is_spent and not self._decoder.getstate()[0]


def ends_of(tokenizer: Tokenizer, end_ids: Iterable[int] = ()) -> set[int]:
    """The tokens that end an answer: `end_ids`, and the tokenizer's ends of a document and of a turn."""
    ends = set(end_ids)
    for name in ("end_of_document", "end_of_turn"):
        with suppress(ValueError):  # other people's tokenizers have one of the two
            ends.add(getattr(tokenizer, name))
    return ends
