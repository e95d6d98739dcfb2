"""What the faces that answer a conversation share: whatever its words, a request is read as one for a chat."""

from typing import Protocol

from pydantic import ValidationError

from inhouse.api.errors import from_validation
from inhouse.api.pieces import Usage
from inhouse.api.protocol import ChatRequest
from inhouse.serve.answer import Reading
from inhouse.serve.choices import Choice
from inhouse.serve.generation import Face, jobs_of
from inhouse.serve.served import Served
from inhouse.serve.tools import Tools, tools_of


class Convertible(Protocol):
    """A request of another API."""

    def to_chat(self) -> ChatRequest: ...


class Conversation(Face[ChatRequest]):
    """One such request; its raw body is checked as it is made."""

    body_type = ChatRequest
    param = "messages"  # what the API calls them

    def __init__(self, served: Served, raw: bytes) -> None:
        super().__init__(served, raw)
        self.check_count(1)
        body = self.body
        max_tokens = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
        num_top = body.top_logprobs if body.logprobs else None
        tools = requested_tools(served, body)
        prompt = encode(served, body, tools, self.param)
        self.prompts, self.reading = [prompt], Reading.of(served, prompt, tools)
        self.jobs = jobs_of(
            self, self.param, max_tokens=max_tokens, num_top=num_top, printed_ids=self.reading.printed_ids
        )
        self.choices = [Choice(served.tokenizer, num_top=num_top) for _ in self.jobs]
        self.answers = [self.reading.new_answer() for _ in self.jobs]

    @property
    def usage(self) -> Usage:
        """Of the first answer, for APIs that know of one only."""
        (prompt,), choice = self.prompts, self.choices[0]
        return Usage(len(prompt), choice.num_cached, choice.num_tokens)


def requested_tools(served: Served, body: ChatRequest) -> Tools | None:
    functions, choice = [tool.function for tool in body.tools], body.tool_choice
    if isinstance(choice, str):
        return tools_of(served, functions, choice, is_parallel=body.parallel_tool_calls)
    return tools_of(served, functions, "function", choice.function.name)


def encode(served: Served, body: ChatRequest, tools: Tools | None, param: str) -> list[int]:
    """The prompt of a chat, whose messages were sent as `param`."""
    return served.encode_messages(body.messages, tools.functions if tools else (), param)


def as_chat(asked: Convertible) -> ChatRequest:
    """Raises `ApiError` where a chat cannot say the same."""
    try:
        return asked.to_chat()
    except ValidationError as error:
        raise from_validation(error) from error
