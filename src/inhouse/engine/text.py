"""From tokens to text while they come: whole characters only, and nothing that may still become a stop string."""

import codecs


class TextStream:
    """Decodes the bytes of tokens as UTF-8 and ends at the first stop string, wherever token borders fall.

    Bytes that are no UTF-8 come out as U+FFFD.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = [text.encode() for text in stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = b""
        self._parts: list[str] = []
        self.is_stopped = False

    @property
    def text(self) -> str:
        return "".join(self._parts)

    def push(self, piece: bytes) -> str:
        """Take the bytes of one more token; return the text that is certain now."""
        self._held += piece
        if self._stop:
            found = [place for stop in self._stop if (place := self._held.find(stop)) >= 0]
            if found:
                self.is_stopped = True
                self._held = self._held[: min(found)]
                return self.finish()
        certain = len(self._held) - self._possible_stop()
        text = self._decoder.decode(self._held[:certain])
        self._held = self._held[certain:]
        self._parts.append(text)
        return text

    def finish(self) -> str:
        """No more tokens come: return what was held back."""
        text = self._decoder.decode(self._held, final=True)
        self._held = b""
        self._parts.append(text)
        return text

    def _possible_stop(self) -> int:
        """Length of the longest end of the held bytes that begins a stop string."""
        longest = 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:length]):
                    longest = length
                    break
        return longest
