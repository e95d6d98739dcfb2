"""What clients may send to Anthropic's Messages API, and the same as a request for a chat.

The rule for fields is that of `generation`. `cache_control` changes nothing about the answer: to servers of ours, which
cache every prefix, it says nothing; Anthropic's are told (`ChatRequest.said`).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.chat_messages import MAX_MESSAGES, CalledFunction, ChatMessage, ToolCall
from inhouse.api.wire.fields import IGNORED, FewParts, JsonObject, OneOf, OrText, Request, StopStrings, misfit, neutral
from inhouse.api.wire.images import Image, Part, image
from inhouse.api.wire.tools import MAX_NAMED_TOOLS, MAX_TOOLS, Function, Tool


class Block(Request):
    """Part of a message."""

    cache_control: Any = None


class TextBlock(Block):
    type: Literal["text"]
    text: str
    citations: Annotated[Any, neutral([])] = []


class RedactedThinkingBlock(Block):
    """Thinking that only its own server can read."""

    type: Literal["redacted_thinking"]
    data: str = ""


class PlainSource(Request):
    type: Literal["text"]
    media_type: Literal["text/plain"] = "text/plain"
    data: str


class DocumentBlock(Block):
    """A document of plain text, with its title before it."""

    type: Literal["document"]
    source: Annotated[PlainSource, OneOf({"text": PlainSource})]
    title: str | None = None
    context: str | None = None
    citations: Annotated[Any, neutral({"enabled": False})] = None

    @property
    def text(self) -> str:
        return "\n".join(text for text in (self.title, self.context, self.source.data) if text)


class SearchResultBlock(Block):
    type: Literal["search_result"]
    title: str
    source: str
    content: list[TextBlock]
    citations: Annotated[Any, neutral({"enabled": False})] = None

    @property
    def text(self) -> str:
        return "\n".join([self.title, self.source, *(block.text for block in self.content)])


class ImageSource(Request):
    """An image itself, in base64, or its address."""

    type: Literal["base64", "url"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None

    @property
    def image(self) -> Image:
        return image(self.url if self.type == "url" else f"data:{self.media_type};base64,{self.data}")

    @model_validator(mode="after")
    def _is_one(self) -> "ImageSource":
        assert self.image
        return self


class ImageBlock(Block):
    """Only for who parses with images."""

    type: Literal["image"]
    source: ImageSource


Text = TextBlock | DocumentBlock | SearchResultBlock
_TEXTS: dict[str, type[Request]] = {
    "text": TextBlock, "document": DocumentBlock, "search_result": SearchResultBlock,
}  # fmt: skip
Seen = Text | ImageBlock
_IMAGES: dict[str, type[Request]] = {"image": ImageBlock}
AnyText = Annotated[Text, OneOf(_TEXTS)]


class ThinkingBlock(Block):
    """What the model thought in an earlier turn. Only Anthropic's sign theirs; servers of ours accept any signature."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class ToolUseBlock(Block):
    type: Literal["tool_use"]
    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    input: JsonObject
    caller: Annotated[Any, neutral({"type": "direct"})] = None


class ToolResultBlock(Block):
    type: Literal["tool_result"]
    tool_use_id: str
    content: Annotated[list[Annotated[Seen, OneOf(_TEXTS, of_images=_IMAGES)]], OrText({"type": "text"})] = []
    is_error: bool = False

    @property
    def text(self) -> str:
        """What a chat template has no place for, that it is an error, is said in words."""
        text = _joined(self.content)
        return f"Error: {text}" if self.is_error else text


AnyBlock = Annotated[
    Seen | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock,
    OneOf(
        _TEXTS
        | {"thinking": ThinkingBlock, "redacted_thinking": RedactedThinkingBlock}
        | {"tool_use": ToolUseBlock, "tool_result": ToolResultBlock},
        of_images=_IMAGES,
    ),
]
_THOUGHTS = (ThinkingBlock, RedactedThinkingBlock)
_BLOCKS = {
    "user": (Seen, ToolResultBlock),
    "assistant": (TextBlock, ThinkingBlock, RedactedThinkingBlock, ToolUseBlock),
    "system": (TextBlock,),
}


class Message(Request):
    """One turn: a text, or blocks."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[list[AnyBlock], OrText({"type": "text"})]

    @model_validator(mode="after")
    def _has_its_roles_blocks(self) -> "Message":
        if strange := [block.type for block in self.content if not isinstance(block, _BLOCKS[self.role])]:
            raise PydanticCustomError("blocks", f"the role {self.role} has no blocks of type {strange[0]}")
        if not self.content and self.role != "assistant":
            raise PydanticCustomError("no_content", "a message of this role needs a content")
        if sum(isinstance(block, ToolUseBlock) for block in self.content) > MAX_TOOLS:
            raise PydanticCustomError("too_many", f"at most {MAX_TOOLS} calls in a message are allowed")
        return self

    def to_chat(self) -> Iterator[ChatMessage]:
        """One message; the results of tools in a user's turn are messages of their own, in their places."""
        if self.role != "assistant":
            texts: list[Seen] = []
            for block in self.content:
                if isinstance(block, ToolResultBlock):
                    yield from self._said(texts)
                    texts = []
                    said = ChatMessage(role="tool", tool_call_id=block.tool_use_id, content=block.text)
                    yield said.with_parts(["Error:"] * block.is_error + _parts(block.content))
                elif isinstance(block, Seen):
                    texts.append(block)
            yield from self._said(texts)
            return
        thoughts = [block.thinking for block in self.content if isinstance(block, ThinkingBlock)]
        calls = [
            ToolCall(id=block.id, function=CalledFunction(name=block.name, arguments=json.dumps(block.input)))
            for block in self.content
            if isinstance(block, ToolUseBlock)
        ]
        yield ChatMessage(
            role="assistant",
            content=_joined([block for block in self.content if isinstance(block, TextBlock)]),
            reasoning_content="\n".join(thoughts) if thoughts else None,
            tool_calls=calls,
        )

    def _said(self, texts: list[Seen]) -> Iterator[ChatMessage]:
        if texts:
            yield ChatMessage(role=self.role, content=_joined(texts)).with_parts(_parts(texts))


def _joined(blocks: Sequence[Seen]) -> str:
    return "\n".join(block.text for block in blocks if not isinstance(block, ImageBlock))


def _parts(blocks: Sequence[Seen]) -> list[Part]:
    return [block.source.image if isinstance(block, ImageBlock) else block.text for block in blocks]


class ToolDefinition(Block):
    """A tool that the client runs. The server has none of its own."""

    ignored: ClassVar = IGNORED | {"input_examples"}
    type: Literal["custom"] = "custom"
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")
    description: str | None = None
    input_schema: JsonObject
    strict: bool = False
    eager_input_streaming: bool = False  # only says in which pieces a call comes
    defer_loading: Annotated[Any, neutral(False)] = False
    allowed_callers: Annotated[Any, neutral(["direct"])] = ["direct"]

    def to_chat(self) -> Tool:
        named = {"name": self.name, "parameters": self.input_schema, "strict": self.strict}
        if self.description is not None:
            named["description"] = self.description
        return Tool(type="function", function=Function.model_validate(named))


class ToolChoice(Request):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    @model_validator(mode="after")
    def _names_what_it_means(self) -> "ToolChoice":
        if (self.type == "tool") != (self.name is not None):
            raise PydanticCustomError("name", "type tool needs the name of one, the others have none")
        return self


class ThinkingConfig(Request):
    """`adaptive`: the model thinks where its chat template has it do so, as long as the effort lets it."""

    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: int | None = Field(default=None, ge=1)
    display: Literal["summarized", "omitted"] = "summarized"

    @model_validator(mode="after")
    def _has_its_budget(self) -> "ThinkingConfig":
        if (self.type == "enabled") != (self.budget_tokens is not None):
            raise PydanticCustomError("budget", "type enabled needs budget_tokens, the others have none")
        return self


class JsonFormat(Request):
    type: Literal["json_schema"]
    schema_: JsonObject = Field(alias="schema")


class OutputConfig(Request):
    format: JsonFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Keep(Request):
    """How many of the last turns keep their thinking."""

    type: Literal["thinking_turns", "all"]
    value: int | None = Field(default=None, ge=1)


class ClearThinking(Request):
    """An edit of the context: thinking of earlier turns is left out of the prompt."""

    type: Literal["clear_thinking_20251015"]
    keep: Annotated[Keep | Literal["all"], OneOf({"thinking_turns": Keep, "all": Keep}, words=("all",))] = Keep(
        type="thinking_turns", value=1
    )

    def num_kept(self, num_turns: int) -> int:
        if isinstance(self.keep, str) or self.keep.type == "all":
            return num_turns
        return self.keep.value or 1


class ContextManagement(Request):
    edits: list[Annotated[ClearThinking, OneOf({"clear_thinking_20251015": ClearThinking})]] = Field(
        default=[], max_length=1
    )


_NO_PROMPT = {"diagnostics", "inference_geo", "user_profile_id", "workspace_id"}
_SAMPLING = {
    "max_tokens", "stream", "stop_sequences", "temperature", "top_p", "top_k", "speed", "mcp_servers", "container",
}  # fmt: skip


class CountTokensRequest(Request):
    """POST /v1/messages/count_tokens: all of a request that makes its prompt. The rest of one is ignored."""

    ignored: ClassVar = IGNORED | _NO_PROMPT | _SAMPLING
    model: str
    messages: Annotated[list[Message], FewParts] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: Annotated[list[TextBlock], OrText({"type": "text"})] = []
    tools: list[ToolDefinition] = Field(default=[], max_length=MAX_NAMED_TOOLS)
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    cache_control: Any = None
    context_management: ContextManagement = ContextManagement()

    @field_validator("messages")
    @classmethod
    def _ends_with_the_users(cls, messages: list[Message]) -> list[Message]:
        if messages[-1].role == "assistant":
            raise PydanticCustomError("prefill", "the last message must not be the assistant's: it cannot be continued")
        return messages

    @model_validator(mode="after")
    def _answers_calls(self) -> "CountTokensRequest":
        called: set[str] = set()
        for number, message in enumerate(self.messages):
            for place, block in enumerate(message.content):
                if isinstance(block, ToolUseBlock):
                    called.add(block.id)
                elif isinstance(block, ToolResultBlock) and block.tool_use_id not in called:
                    raise misfit(
                        f"messages[{number}].content[{place}].tool_use_id", "no tool_use before it has this id"
                    )
        return self

    def to_chat(self) -> ChatRequest:
        """Raises `ApiError` or `ValidationError` where a chat cannot say the same."""
        system = [ChatMessage(role="system", content=_joined(self.system))] if self.system else []
        self._forget_thinking()
        said = [chat.numbered(number) for number, each in enumerate(self.messages, 1) for chat in each.to_chat()]
        return ChatRequest(
            model=self.model,
            messages=[*system, *said],
            **self._tools_to_chat(),
            **self._thinking_to_chat(),
            **self._to_chat_options(),
        ).said_as(self)

    @property
    def num_sealed(self) -> int:
        """Bytes of what only its own server reads: the whole of thoughts of which the text may be a summary."""
        blocks = [block for message in self.messages for block in message.content]
        signed = sum(len(block.signature) for block in blocks if isinstance(block, ThinkingBlock))
        return signed + sum(len(block.data) for block in blocks if isinstance(block, RedactedThinkingBlock))

    def _forget_thinking(self) -> None:
        thoughtful = [each for each in self.messages if any(isinstance(block, _THOUGHTS) for block in each.content)]
        for edit in self.context_management.edits:
            for message in thoughtful[: max(len(thoughtful) - edit.num_kept(len(thoughtful)), 0)]:
                message.content = [block for block in message.content if not isinstance(block, _THOUGHTS)]

    def _thinking_to_chat(self) -> dict[str, Any]:
        effort = None if self.output_config is None else self.output_config.effort
        if self.thinking is None:
            return {"reasoning_effort": effort}
        if self.thinking.type == "disabled":
            return {"reasoning_effort": "none"}
        return {"reasoning_effort": effort, "thinking_token_budget": self.thinking.budget_tokens}

    def _tools_to_chat(self) -> dict[str, Any]:
        options: dict[str, Any] = {"tools": [tool.to_chat() for tool in self.tools]}
        if (choice := self.tool_choice) is not None:
            words = {"auto": "auto", "any": "required", "none": "none"}
            named = {"type": "function", "function": {"name": choice.name}}
            options["tool_choice"] = words.get(choice.type, named)
            options["parallel_tool_calls"] = not choice.disable_parallel_tool_use
        if self.output_config is not None and (form := self.output_config.format) is not None:
            schema = {"name": "output", "schema": form.schema_, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return options

    def _to_chat_options(self) -> dict[str, Any]:
        """How it is sampled: nothing of that makes the prompt."""
        return {}


class MessagesRequest(CountTokensRequest):
    """POST /v1/messages."""

    ignored: ClassVar = IGNORED | _NO_PROMPT
    max_tokens: int = Field(ge=1)
    stream: bool = False
    stop_sequences: StopStrings = []
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, ge=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=0, le=2**31 - 1)
    speed: Annotated[Any, neutral("standard")] = None
    mcp_servers: Annotated[Any, neutral([])] = None
    container: Annotated[Any, neutral()] = None

    def _to_chat_options(self) -> dict[str, Any]:
        same = ("max_tokens", "stream", "temperature", "top_p", "top_k")
        return {"stop": self.stop_sequences} | {name: getattr(self, name) for name in same}
