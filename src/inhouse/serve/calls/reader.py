"""Finds the calls of tools in an answer's text while it comes."""

from inhouse.serve.calls.formats import Call, Tools
from inhouse.serve.reasoning import overlap

_MOST_MARKS = 16  # closing marks that one call may have in its strings: each is a try to read it


class ToolReader:
    """Splits one answer's text into content and calls; however it is cut into pieces, both are the same.

    A call is given when it is complete. What begins like one and is none stays content. White space around calls is
    dropped: templates write their own there. Where calls must be made, all else is what is left of one that was cut.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools, self._format = tools, tools.format
        self._held = ""
        self._is_in_call = self._is_after_call = self._has_content = self._is_done = False
        self._place = self._num_marks = 0  # of the call: where to look for its next closing mark; how many it has had

    def push(self, text: str, is_last: bool) -> list[str | Call]:
        """The content and the calls that have become certain, in their order."""
        self._held += text
        found: list[str | Call] = []
        while not self._is_done:
            if not self._is_in_call:
                found.append(self._content(is_last))
                if not self._is_in_call:
                    break
            calls = self._calls(is_last)
            if calls is None:
                break
            found += calls
        must_call = bool(self._tools.must_call)
        return [item for item in found if item and (isinstance(item, Call) or not must_call)]

    @property
    def is_done(self) -> bool:
        """Whether there will be no further call."""
        return self._is_done

    def _content(self, is_last: bool) -> str:
        """What is held up to the next opening, or up to what may still become one."""
        if self._is_after_call:
            self._held = self._held.lstrip()
            self._is_after_call = not self._held
        openings = [] if self._format.only_at_start and self._has_content else self._format.openings
        places = [place for opening in openings if (place := self._held.find(opening)) >= 0]
        if places and not (self._format.only_at_start and self._held[: min(places)].strip()):
            end = min(places)
            text, self._held = self._held[:end].rstrip(), self._held[end:]
            self._is_in_call, self._place, self._num_marks = True, 1, 0
        else:
            begun = 0 if is_last else max((overlap(self._held, opening) for opening in openings), default=0)
            end = len(self._held) - begun
            end = end if is_last else len(self._held[:end].rstrip())
            text, self._held = self._held[:end], self._held[end:]
        self._has_content |= bool(text)
        return text

    def _calls(self, is_last: bool) -> list[str | Call] | None:
        """The call that is held, or the beginning of what turns out to be none; None while it may still become one."""
        close = self._format.close
        while close and (found := self._held.find(close, self._place)) >= 0 and self._num_marks < _MOST_MARKS:
            self._num_marks += 1
            self._place = found + len(close)
            if calls := self._read(self._held[: self._place]):
                return self._end(calls, self._held[self._place :])
        may_lack_close = not (close and self._tools.must_call)  # a bound answer writes it, unless it was cut
        if is_last and may_lack_close and (calls := self._read(self._held + close)):
            return self._end(calls, "")
        if not is_last and self._num_marks < _MOST_MARKS:
            return None
        self._is_in_call, self._has_content = False, True
        first, self._held = self._held[0], self._held[1:]
        return [first]

    def _read(self, text: str) -> list[Call]:
        try:
            return self._format.read(text, self._tools.parameters)
        except ValueError:
            return []

    def _end(self, calls: list[Call], rest: str) -> list[str | Call]:
        self._is_in_call, self._is_after_call, self._held = False, True, rest
        self._is_done = not self._tools.is_parallel
        return [*(calls[:1] if self._is_done else calls)]
