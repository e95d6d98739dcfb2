"""What clients may send to OpenAI's Responses API, and the same as a request for a chat.

Nothing is stored: fields that lead to an earlier response are refused, as is `store: true`.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inhouse.api.wire.chat import ChatRequest, Effort
from inhouse.api.wire.chat_messages import MAX_MESSAGES, CalledFunction, ChatMessage, ToolCall
from inhouse.api.wire.fields import IGNORED, CacheSalt, FewParts, JsonObject, OneOf, OrText, Request, misfit, neutral
from inhouse.api.wire.forms import ResponseFormat
from inhouse.api.wire.images import Image, Part, image
from inhouse.api.wire.tools import MAX_TOOLS, Function, Tool

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(Request):
    type: Literal["input_text"]
    text: str


class OutputText(Request):
    """Part of an earlier answer, sent back."""

    ignored: ClassVar = IGNORED | {"parsed"}
    type: Literal["output_text"]
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class Refusal(Request):
    """Part of an earlier answer of another server."""

    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class ReasoningText(Request):
    type: Literal["reasoning_text", "summary_text"]
    text: str


class InputImage(Request):
    """Only for who parses with images."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] = "auto"

    @property
    def image(self) -> Image:
        return image(self.image_url, self.detail)

    @model_validator(mode="after")
    def _is_one(self) -> "InputImage":
        assert self.image
        return self


AnyText = Annotated[
    InputText | OutputText | Refusal | InputImage,
    OneOf(
        {"input_text": InputText, "output_text": OutputText, "refusal": Refusal},
        of_images={"input_image": InputImage},
    ),
]


class Item(Request):
    """What the ids and states of an earlier answer's items say, nothing is to be looked up by."""

    id: str | None = None
    status: Status | None = None


class MessageItem(Item):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[AnyText], OrText({"type": "input_text"})]
    phase: Literal["commentary", "final_answer"] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "MessageItem":
        if not self.content and self.role != "assistant":
            raise PydanticCustomError("no_content", "a message of this role needs a content")
        if self.role != "user" and any(isinstance(part, InputImage) for part in self.content):
            raise PydanticCustomError("no_images", "only a message of the role user has images")
        return self


class FunctionCall(Item):
    ignored: ClassVar = IGNORED | {"parsed_arguments"}
    type: Literal["function_call"]
    call_id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    arguments: str


class FunctionCallOutput(Item):
    type: Literal["function_call_output"]
    call_id: str
    output: Annotated[list[AnyText], OrText({"type": "input_text"})]


class ReasoningItem(Item):
    """What the model thought in an earlier turn, as it was given out: in the clear."""

    type: Literal["reasoning"]
    summary: list[ReasoningText] = []
    content: list[ReasoningText] = []
    encrypted_content: Annotated[Any, neutral("")] = None


_SAID = {"type": "message", "role": "user"}
_KINDS = {
    "message": MessageItem,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
}
AnyItem = Annotated[MessageItem | FunctionCall | FunctionCallOutput | ReasoningItem, OneOf(_KINDS, "message")]


class FunctionTool(Request):
    """A function that the client runs. The server has no tools of its own."""

    type: Literal["function"]
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: JsonObject = {}
    strict: bool = False
    defer_loading: Annotated[Any, neutral(False)] = False
    allowed_callers: Annotated[Any, neutral(["direct"])] = ["direct"]

    @field_validator("type", mode="before")
    @classmethod
    def _is_the_clients(cls, kind: Any) -> Any:
        if isinstance(kind, str) and kind != "function":
            raise PydanticCustomError("unsupported", "only function tools; remove {kind}", {"kind": kind[:64]})
        return kind

    def to_chat(self) -> Tool:
        named = self.model_dump(include={"name", "description", "parameters", "strict"}, exclude_none=True)
        return Tool(type="function", function=Function.model_validate(named))


class NamedFunction(Request):
    type: Literal["function"]
    name: str


class AllowedFunctions(Request):
    """A `tool_choice` that leaves some of the functions."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[NamedFunction] = Field(min_length=1, max_length=MAX_TOOLS)


class TextFormat(Request):
    """Of an answer's text: any, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: JsonObject | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_a_schema(self) -> "TextFormat":
        given = self.name is not None and self.schema_ is not None
        if given != (self.type == "json_schema"):
            raise PydanticCustomError("schema", "type json_schema needs a name and a schema, the others have none")
        return self

    def to_chat(self) -> ResponseFormat:
        if self.type != "json_schema":
            return ResponseFormat(type=self.type)
        named = {"name": self.name, "schema": self.schema_, "description": self.description, "strict": self.strict}
        return ResponseFormat.model_validate({"type": self.type, "json_schema": named})


class TextConfig(Request):
    ignored: ClassVar = IGNORED | {"verbosity"}
    format: TextFormat = TextFormat()


class ReasoningConfig(Request):
    """What the model thinks is given out whole, whichever summary of it is asked for."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Annotated[Any, neutral("auto")] = None
    mode: Annotated[Any, neutral("standard")] = None


class ResponseStreamOptions(Request):
    include_obfuscation: bool = False  # padding against traffic analysis; never sent here


class ResponsesRequest(Request):
    """POST /v1/responses."""

    ignored: ClassVar = (IGNORED | {"client_metadata"}) - {"metadata", "store"}
    metadata: dict[str, str] = Field(default={}, max_length=16)  # given back
    model: str
    input: Annotated[list[AnyItem], FewParts, OrText(_SAID, "content"), Field(min_length=1, max_length=MAX_MESSAGES)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, ge=0.0, le=1.0)
    stream: bool = False
    stream_options: ResponseStreamOptions | None = None
    text: TextConfig = TextConfig()
    tools: list[FunctionTool] = Field(default=[], max_length=MAX_TOOLS)
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | NamedFunction | AllowedFunctions,
        OneOf({"function": NamedFunction, "allowed_tools": AllowedFunctions}, words=("none", "auto", "required")),
    ] = "auto"
    parallel_tool_calls: bool = True
    reasoning: ReasoningConfig = ReasoningConfig()
    # thinking is given out in the clear, which serves whoever would send it back encrypted
    include: list[Literal["reasoning.encrypted_content"]] = []
    truncation: Annotated[Any, neutral("disabled")] = "disabled"
    top_logprobs: Annotated[Any, neutral(0)] = 0
    background: Annotated[Any, neutral(False)] = False
    store: Annotated[Any, neutral(False)] = False
    previous_response_id: Annotated[Any, neutral()] = None
    conversation: Annotated[Any, neutral()] = None
    prompt: Annotated[Any, neutral()] = None
    max_tool_calls: Annotated[Any, neutral()] = None
    context_management: Annotated[Any, neutral([])] = None
    moderation: Annotated[Any, neutral()] = None
    cache_salt: CacheSalt | None = None

    @model_validator(mode="after")
    def _answers_calls(self) -> "ResponsesRequest":
        called: set[str] = set()
        in_a_row = 0
        for number, item in enumerate(self.input):
            in_a_row = in_a_row + 1 if isinstance(item, FunctionCall) else 0
            if in_a_row > MAX_TOOLS:
                raise misfit(f"input[{number}]", f"at most {MAX_TOOLS} calls in a row are allowed")
            if isinstance(item, FunctionCall):
                called.add(item.call_id)
            elif isinstance(item, FunctionCallOutput) and item.call_id not in called:
                raise misfit(f"input[{number}].call_id", "no function_call before it has this id")
        return self

    def to_chat(self) -> ChatRequest:
        """Raises `ApiError` or `ValidationError` where a chat cannot say the same."""
        system = [ChatMessage(role="system", content=self.instructions)] if self.instructions else []
        choice: Any = self.tool_choice
        if isinstance(choice, NamedFunction):
            choice = {"type": "function", "function": {"name": choice.name}}
        elif isinstance(choice, AllowedFunctions):
            tools = [{"type": "function", "function": {"name": tool.name}} for tool in choice.tools]
            choice = {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tools}}
        return ChatRequest(
            model=self.model,
            messages=[*system, *_messages(self.input)],
            stream=self.stream,
            max_completion_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            tools=[tool.to_chat() for tool in self.tools],
            tool_choice=choice,
            parallel_tool_calls=self.parallel_tool_calls,
            reasoning_effort=self.reasoning.effort,
            response_format=self.text.format.to_chat(),
            cache_salt=self.cache_salt,
        )


def _messages(items: list[AnyItem]) -> list[ChatMessage]:
    """Thinking, text and calls that follow each other are one turn of the assistant."""
    said: list[ChatMessage] = []
    turn: dict[str, Any] = {}
    for number, item in enumerate(items, 1):
        key, part = _of_a_turn(item)
        if turn and (part is None or (key in turn and key != "tool_calls")):
            said.append(ChatMessage(role="assistant", **turn).numbered(number - 1))
            turn = {}
        if part is not None:
            turn[key] = [*turn.get(key, []), part] if key == "tool_calls" else part
        elif isinstance(item, MessageItem):
            message = ChatMessage(role=item.role, content=_joined(item.content))
            said.append(message.with_parts(_parts(item.content)).numbered(number))
        elif isinstance(item, FunctionCallOutput):
            answer = ChatMessage(role="tool", tool_call_id=item.call_id, content=_joined(item.output))
            said.append(answer.with_parts(_parts(item.output)).numbered(number))
    return [*said, ChatMessage(role="assistant", **turn).numbered(len(items))] if turn else said


def _of_a_turn(item: AnyItem) -> tuple[str, Any]:
    """Which field of an assistant's turn the item is, and its value; (…, None) for what is no part of one."""
    if isinstance(item, ReasoningItem):
        return "reasoning_content", "\n".join(part.text for part in item.content or item.summary)
    if isinstance(item, FunctionCall):
        return "tool_calls", ToolCall(
            id=item.call_id, function=CalledFunction(name=item.name, arguments=item.arguments)
        )
    if isinstance(item, MessageItem) and item.role == "assistant":
        return "content", _joined(item.content)
    return "", None


def _joined(parts: list[AnyText]) -> str:
    return "\n".join(part.text for part in parts if not isinstance(part, InputImage))


def _parts(parts: list[AnyText]) -> list[Part]:
    return [part.image if isinstance(part, InputImage) else part.text for part in parts]
