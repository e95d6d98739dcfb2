"""Finds the calls of tools in an answer's text while it comes."""

import re

from inhouse.serve.calls.arguments import JsonArguments
from inhouse.serve.calls.formats import Call, More, Tools
from inhouse.serve.reasoning import overlap

_FURTHER = re.compile(r"\s*\}?[\s,;]*(?=\{)")  # behind a call's arguments, where another call is in the same tag
_SPACE = " \t\r\n"
_MOST_MARKS = 16  # closing marks that one call may have in its strings: each is a try to read it


class ToolReader:
    """Splits one answer's text into content and calls; however it is cut into pieces, both are the same.

    A call of a known function that is written as its format has it is given as it comes, its arguments as far as they
    are JSON; any other when it is complete. What begins like one and is none stays content. White space around calls
    is dropped: templates write their own there. Where calls must be made, all else is what is left of one that was cut.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools, self._format = tools, tools.format
        self._held = ""
        self._is_in_call = self._has_content = self._is_done = False
        self.is_cut = False  # whether the last call's arguments are not whole
        self._is_further = False  # whether what is held stands in the same tag, or list, as a call before it
        self._dropped = ""  # letters that are dropped here: behind a call
        self._arguments: JsonArguments | None = None  # of the call that is given as it comes
        self._place = self._num_marks = 0  # of the call: where to look for its next closing mark; how many it has had

    def push(self, text: str, is_last: bool) -> list[str | Call | More]:
        """The content and the calls that have become certain, in their order."""
        self._held += text
        found: list[str | Call | More] = []
        while not self._is_done:
            if not self._is_in_call:
                found.append(self._content(is_last))
                if not self._is_in_call:
                    break
            if self._arguments is None:
                calls = self._begin() or self._calls(is_last)
            else:
                calls = self._go_on(self._arguments, is_last)
            if calls is None:
                break
            found += calls
        must_call = bool(self._tools.must_call)
        return [item for item in found if item and not (isinstance(item, str) and must_call)]

    @property
    def is_done(self) -> bool:
        """Whether there will be no further call."""
        return self._is_done

    def _content(self, is_last: bool) -> str:
        """What is held up to the next opening, or up to what may still become one."""
        if self._dropped and (rest := self._held.lstrip(self._dropped)) != self._held:
            self._held = rest
        self._dropped = self._dropped if not self._held else ""
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

    def _begin(self) -> list[str | Call | More]:
        """The call that is held, if its name is known now and its arguments begin."""
        head = self._format.streamed.head.match(self._held) if self._format.streamed else None
        if head is None or head[1] not in self._tools.parameters:
            return []
        self._held, self._arguments = self._held[head.end() :], JsonArguments()
        return [Call(self._format.new_id(), head[1], "")]

    def _go_on(self, arguments: JsonArguments, is_last: bool) -> list[str | Call | More] | None:
        """More of the arguments, or what stands behind them; None where nothing can be said yet."""
        if not arguments.is_over:
            taken = arguments.push(self._held, is_last)
            self._held = taken.rest or ""
            if not arguments.is_over and is_last:
                self._leave(is_whole=False)
            return [More(taken.text)] if taken.text or arguments.is_over or is_last else None
        end = self._format.streamed.end if self._format.streamed else ""
        place = self._held.find(end) if end else 0
        if not arguments.is_whole and not end:
            self._held, self._is_done = "", True  # nobody can say where the next one begins
            self._leave(is_whole=False)
        elif arguments.is_whole and end and self._tools.is_parallel and (more := _FURTHER.match(self._held)):
            self._held, self._arguments = self._format.openings[0] + self._held[more.end() :], None
            self._place, self._num_marks, self._is_further = 1, 0, True
        elif place >= 0:
            self._held = self._held[place + len(end) :]
            self._leave(arguments.is_whole)
            self._dropped = _SPACE if end else _SPACE + "};"
        elif is_last:
            self._held = ""
            self._leave(arguments.is_whole)
        else:
            return None
        return []

    def _leave(self, is_whole: bool = True) -> None:
        """The call is over."""
        self.is_cut = not is_whole
        self._is_in_call, self._arguments, self._dropped = False, None, _SPACE
        self._is_further = not self._format.close
        self._is_done |= not self._tools.is_parallel

    def _calls(self, is_last: bool) -> list[str | Call | More] | None:
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
        if self._is_further and not self._num_marks:
            self._held, self._is_in_call = "", False  # the beginning of a further one, cut off
            return []
        self._is_in_call, self._has_content = False, True
        first, self._held = self._held[0], self._held[1:]
        return [first]

    def _read(self, text: str) -> list[Call]:
        try:
            return self._format.read(text, self._tools.parameters)
        except ValueError:
            return []

    def _end(self, calls: list[Call], rest: str) -> list[str | Call | More]:
        self._held = rest
        self._leave()
        return [*(calls[:1] if self._is_done else calls)]
