"""What a model thinks before it answers, apart from the answer, as it comes."""

OPEN, CLOSE = "<think>", "</think>"  # of Qwen3, GLM-4.5, DeepSeek-R1 and our own template


class Reasoning:
    """Splits one answer's text into thinking and content; however it is cut into pieces, both are the same.

    Thinking stands at the beginning, between the marks; with `is_open` the prompt has written the first one.
    """

    def __init__(self, is_open: bool = False) -> None:
        self._state = "thinking" if is_open else "start"
        self._held = ""
        self._num_taken = 0
        self.end = 0  # characters up to the end of the thinking, its marks included; while it goes on, all so far
        self._is_at_start = True  # of the thinking, or of the content: white space there is dropped

    def push(self, text: str, is_last: bool) -> tuple[str, str]:
        """The thinking and the content that have become certain."""
        self._held += text
        self._num_taken += len(text)
        thinking = ""
        if self._state == "start":
            begun = self._held.lstrip()
            if begun.startswith(OPEN):
                self._state, self._held = "thinking", begun.removeprefix(OPEN)
            elif is_last or not OPEN.startswith(begun):
                self._state, self._is_at_start = "content", False  # an answer without thinking is left as it is
        if self._state == "thinking":
            thinking, found, rest = self._held.partition(CLOSE)
            self.end = self._num_taken - len(rest)
            if found:
                self._state, self._held = "content", rest
            else:
                kept = 0 if is_last else overlap(thinking, CLOSE)
                thinking, self._held = thinking[: len(thinking) - kept], thinking[len(thinking) - kept :]
            thinking = self._without_start(thinking)
            self._is_at_start |= bool(found)
        content = ""
        if self._state == "content":
            content, self._held = self._without_start(self._held), ""
        return thinking, content

    def _without_start(self, text: str) -> str:
        if self._is_at_start:
            text = text.lstrip()
            self._is_at_start = not text
        return text


def overlap(text: str, mark: str) -> int:
    """Letters at the end of `text` that may be the beginning of the mark."""
    return next((n for n in range(min(len(mark) - 1, len(text)), 0, -1) if mark.startswith(text[-n:])), 0)
