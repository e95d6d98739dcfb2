"""The arguments of a call while the model writes them: JSON that is checked letter by letter, and given out at once."""

import json
import re
from typing import NamedTuple

_MOST_LEVELS = 100  # clients and templates read no deeper
_MOST_LETTERS = 1000  # of a number
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null", re.ASCII)
_IN_SCALAR = re.compile(r"[\w.+-]*", re.ASCII)
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(
    r'\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})'
)
_ESCAPES = ("\\n", "\\u0000", "\\ud800\\udc00")  # one of each length
_SPACE = " \t\n\r"


class Taken(NamedTuple):
    """What has become certain of the arguments; `rest` is what stands behind them once they are over."""

    text: str
    rest: str | None = None


class JsonArguments:
    """Takes the text of an object and gives it as it comes: no escape is cut, and line breaks in strings are escaped.

    `is_whole` says whether the object has ended. What is no JSON any more ends it too, and is left out.
    """

    def __init__(self) -> None:
        self.is_whole = self.is_over = False
        self._held, self._at = "", 0  # what has not been given begins there
        self._open: list[str] = []  # brackets
        self._state = "value"

    def push(self, text: str, is_last: bool) -> Taken:
        """Not to be called once it `is_over`."""
        self._held, self._at = self._held[self._at :] + text, 0
        given: list[str] = []
        while self._at < len(self._held) and not self.is_over and (piece := self._next(is_last)) is not None:
            given.append(piece)
        return Taken("".join(given), self._held[self._at :] if self.is_over else None)

    def _next(self, is_last: bool) -> str | None:
        """The next piece; None where more must come first, or where it is over because of a fault."""
        letter = self._held[self._at]
        if self._state in ("string", "key"):
            return self._in_string(is_last)
        if letter in _SPACE:
            return self._give(1)
        if self._state == "colon":
            return self._give(1, "value") if letter == ":" else self._fault()
        if letter == "}" and self._open and self._open[-1] == "{" and self._state in ("first key", "comma"):
            return self._close()
        if letter == "]" and self._open and self._open[-1] == "[" and self._state in ("first value", "comma"):
            return self._close()
        if self._state == "comma":
            return self._give(1, "next key" if self._open[-1] == "{" else "value") if letter == "," else self._fault()
        if self._state in ("first key", "next key"):
            return self._give(1, "key") if letter == '"' else self._fault()
        return self._value(letter, is_last)

    def _value(self, letter: str, is_last: bool) -> str | None:
        is_first = not self._open
        if (letter == "{" or (letter == "[" and not is_first)) and len(self._open) < _MOST_LEVELS:
            self._open.append(letter)
            return self._give(1, "first key" if letter == "{" else "first value")
        if is_first:
            return self._fault()  # the arguments are an object
        if letter == '"':
            return self._give(1, "string")
        count = self._count(_IN_SCALAR)
        if self._at + count == len(self._held) and not is_last and count < _MOST_LETTERS:
            return None
        is_scalar = _SCALAR.fullmatch(self._held, self._at, self._at + count)
        return self._give(count, "comma") if is_scalar and count < _MOST_LETTERS else self._fault()

    def _in_string(self, is_last: bool) -> str | None:
        letter = self._held[self._at]
        if letter == '"':
            return self._give(1, "colon" if self._state == "key" else "comma")
        if letter != "\\":
            if letter < " ":
                self._at += 1
                return json.dumps(letter)[1:-1]
            return self._give(self._count(_PLAIN))
        if count := self._count(_ESCAPE):
            return self._give(count)
        begun = self._held[self._at :][: len(_ESCAPES[-1])]
        is_begun = any(_ESCAPE.fullmatch(begun + each[len(begun) :]) for each in _ESCAPES)
        return None if is_begun and not is_last else self._fault()

    def _give(self, count: int, state: str | None = None) -> str:
        self._at += count
        self._state = state or self._state
        return self._held[self._at - count : self._at]

    def _close(self) -> str:
        self._open.pop()
        self.is_whole = self.is_over = not self._open
        return self._give(1, "comma")

    def _fault(self) -> str | None:
        self.is_over = True
        return None

    def _count(self, pattern: re.Pattern[str]) -> int:
        """Letters that the pattern matches from here on."""
        found = pattern.match(self._held, self._at)
        return len(found[0]) if found else 0
