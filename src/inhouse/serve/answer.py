"""One sequence's text as what it is to a client: thinking, content, and calls of tools.

No endpoint's own: each face takes the pieces and writes them in its words.
"""

from typing import NamedTuple, Self

from inhouse.api.wire.pieces import CallPiece, Content, Piece, Thinking
from inhouse.serve.calls.formats import Call, More, Tools
from inhouse.serve.calls.reader import ToolReader
from inhouse.serve.choices import Delta
from inhouse.serve.reasoning import CLOSE, OPEN, Reasoning
from inhouse.serve.served import Served
from inhouse.serve.thinking import is_opened, knows_thinking


class Reading(NamedTuple):
    """How the answers to one prompt are read: `new_answer` for each."""

    thinks: bool  # whether the template knows of thinking
    is_thinking: bool  # the prompt has opened it
    tools: Tools | None  # that may be called
    printed_ids: tuple[int, ...]  # marks that are special tokens and must be part of the text

    @classmethod
    def of(cls, served: Served, prompt: list[int], tools: Tools | None = None) -> Self:
        tokenizer = served.tokenizer
        thinks = knows_thinking(served.chat_template)
        is_thinking = thinks and is_opened(tokenizer, prompt)
        marks = (*((OPEN, CLOSE) if thinks else ()), *(tools.format.marks if tools else ()))
        ids = (tokenizer.special[mark] for mark in marks if mark in tokenizer.special)
        return cls(thinks, is_thinking, tools, tuple(token for token in ids if token in tokenizer.skipped))

    def new_answer(self) -> "Answer":
        reader = ToolReader(self.tools) if self.tools else None
        return Answer(Reasoning(self.is_thinking) if self.thinks else None, reader)


class Answer:
    """One answer: `take` gives what is new, the rest is all that there is so far."""

    def __init__(self, reasoning: Reasoning | None = None, tools: ToolReader | None = None) -> None:
        self._reasoning, self._tools = reasoning, tools
        self.thinking = self.content = ""
        self.calls: list[Call] = []
        self.finish_reason: str | None = (
            None  # "tool_calls" where it would be "stop" and there are calls, or all that there may be
        )

    @property
    def thinking_end(self) -> int:
        """Characters of the answer that belong to its thinking, marks included, so far."""
        return self._reasoning.end if self._reasoning else 0

    def take(self, delta: Delta) -> list[Piece]:
        """The pieces that have become certain, in their order, none of them empty."""
        is_last = delta.finish_reason is not None
        thinking, text = self._reasoning.push(delta.text, is_last) if self._reasoning else ("", delta.text)
        self.thinking += thinking
        pieces: list[Piece] = [Thinking(thinking)] if thinking else []
        for item in self._tools.push(text, is_last) if self._tools else [text]:
            if isinstance(item, Call):
                pieces.append(CallPiece(len(self.calls), item.id, item.name, ""))
                if item.arguments:
                    pieces.append(CallPiece(len(self.calls), None, None, item.arguments))
                self.calls.append(item)
            elif isinstance(item, More):
                if item.arguments:
                    pieces.append(CallPiece(len(self.calls) - 1, None, None, item.arguments))
                    self.calls[-1] = self.calls[-1]._replace(arguments=self.calls[-1].arguments + item.arguments)
            elif item:
                pieces.append(Content(item))
                self.content += item
        has_all = self._tools is not None and self._tools.is_done
        is_end = delta.finish_reason == "stop" or (delta.finish_reason == "length" and has_all)
        is_cut = self._tools is not None and self._tools.is_cut  # nobody should run what it was going to ask for
        self.finish_reason = "tool_calls" if self.calls and is_end and not is_cut else delta.finish_reason
        return pieces
