"""What the faces that answer a conversation share: whatever its words, a request is read as one for a chat."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

from pydantic import ValidationError

from inhouse.api.errors import ApiError, from_validation
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import Usage
from inhouse.api.wire.tools import AllowedChoice
from inhouse.engine.request import ThinkingLimit
from inhouse.serve.answer import Reading
from inhouse.serve.calls.formats import Tools
from inhouse.serve.choices import Choice
from inhouse.serve.generation import Face, jobs_of
from inhouse.serve.served import Served
from inhouse.serve.structured import compile_grammar, content_of
from inhouse.serve.thinking import budget_of, closed, is_refused, knows_thinking, limit_of, variables_of
from inhouse.serve.tools import tools_of


class Convertible(Protocol):
    """A request of another API."""

    def to_chat(self) -> ChatRequest: ...


class Conversation(Face[ChatRequest]):
    """One such request; its raw body is checked as it is made."""

    body_type = ChatRequest
    names: ClassVar[Mapping[str, str]] = {}  # what the API calls the fields of a chat, where that is another name

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        self.check_count(1)
        try:
            self._prepare()
        except ApiError as error:
            raise error.renamed(self.names) from None

    def _prepare(self) -> None:
        served, body = self.served, self.body
        max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        num_top = body.top_logprobs if body.logprobs else None
        tools = requested_tools(served, body)
        prompt = encode(served, body, tools)
        self.prompts, self.reading = [prompt], Reading.of(served, prompt, tools)
        room = min(max_tokens or served.context, max(served.context - len(prompt), 1))
        grammar = compile_grammar(served, content_of(body, body.response_format), self.reading)
        self.jobs = jobs_of(
            self, "messages", max_tokens=max_tokens, num_top=num_top, printed_ids=self.reading.printed_ids,
            grammar=grammar, thinking=self._limit(room, grammar),
        )  # fmt: skip
        self.choices = [Choice(served.tokenizer, num_top=num_top) for _ in self.jobs]
        self.answers = [self.reading.new_answer() for _ in self.jobs]

    def _limit(self, room: int, grammar: str | None) -> ThinkingLimit | None:
        """Of the thinking in an answer of at most `room` tokens."""
        budget, template = budget_of(self.body, room), self.served.chat_template or ""
        is_open = self.reading.is_thinking
        if budget is None or not self.reading.thinks or (grammar is not None and not is_open):
            return None  # an answer that begins with its form does not think
        return limit_of(self.served.tokenizer, template, budget, is_open)

    def num_thinking(self, job: int) -> int:
        """Tokens of one answer that its thinking took, marks included."""
        return self.choices[job].num_tokens_of(self.answers[job].thinking_end)

    @property
    def usage(self) -> Usage:
        """Of the first answer, for APIs that know of one only."""
        (prompt,), choice = self.prompts, self.choices[0]
        return Usage(len(prompt), choice.num_cached, choice.num_tokens, self.num_thinking(0))


def requested_tools(served: Served, body: ChatRequest) -> Tools | None:
    functions, choice = [tool.function for tool in body.tools], body.tool_choice
    if isinstance(choice, AllowedChoice):
        allowed = [tool.function.name for tool in choice.allowed_tools.tools]
        mode = choice.allowed_tools.mode
        return tools_of(served, functions, mode, is_parallel=body.parallel_tool_calls, allowed=allowed)
    if isinstance(choice, str):
        return tools_of(served, functions, choice, is_parallel=body.parallel_tool_calls)
    return tools_of(served, functions, "function", choice.function.name)


def encode(served: Served, body: ChatRequest, tools: Tools | None) -> list[int]:
    """The prompt of a chat; where the model must not think, with a thinking that has ended."""
    template, functions = served.chat_template or "", tools.functions if tools else ()
    prompt = served.encode_messages(body.messages, functions, variables_of(body, template))
    if is_refused(body) and knows_thinking(template):
        return closed(served.tokenizer, prompt, template)
    return prompt


def as_chat(asked: Convertible) -> ChatRequest:
    """Raises `ApiError` where a chat cannot say the same."""
    try:
        return asked.to_chat()
    except ValidationError as error:
        raise from_validation(error) from error
