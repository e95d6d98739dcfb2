"""What clients may send: the fields of the OpenAI API, typed, each with its limits.

A field that could only be obeyed by doing something that inhouse does not do is refused by name unless it holds its
neutral value; one that changes nothing about the answer (`user`, `store`, …) is ignored; any other is unknown (400).
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from inhouse.api.wire.fields import IGNORED, STOP, STOPS, CacheSalt, JsonObject, Request, StopStrings, misfit, neutral

MAX_TOP_LOGPROBS = 20
MAX_BIASES = 1024
MAX_INPUTS = 2048  # texts of one request for embeddings, as in the API
MAX_MESSAGES = 4096  # rendering ten times as many holds up everybody's streams for half a second
MAX_TOOLS = 128
MAX_NAMED_TOOLS = 1024  # in the API that bounds them by their characters
MAX_GRAMMAR = 131_072  # characters of a schema, a regex, a grammar, or of all tools' parameters together
PlainText = Annotated[str, Field(max_length=1000)]
Prompt = str | list[int]
# what the OpenAPI document says where a validator of ours takes more than the type says
_IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_BATCH = {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, _IDS]}}
_PROMPT = {"anyOf": [{"type": "string"}, _IDS, _BATCH]}
_FILLED = {"type": "string", "minLength": 1}
_INPUTS = {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS, "items": {"anyOf": [_FILLED, _IDS]}}
_INPUT = {"anyOf": [_FILLED, _IDS, _INPUTS]}
_TEXT = {"type": {"const": "text"}, "text": {"type": "string"}}
_PART = {"type": "object", "required": ["type", "text"], "properties": _TEXT}
_CONTENT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]}


class StructuredOutputs(Request):
    """What an answer must be, as vLLM has it: exactly one of these. `grammar` is in llguidance's dialect of Lark."""

    json_schema: JsonObject | None = Field(default=None, alias="json")
    regex: str | None = Field(default=None, min_length=1, max_length=MAX_GRAMMAR)
    choice: list[Annotated[str, Field(min_length=1)]] | None = Field(default=None, min_length=1)
    grammar: str | None = Field(default=None, min_length=1, max_length=MAX_GRAMMAR)

    @field_validator("json_schema", mode="before")
    @classmethod
    def _schema_or_its_text(cls, schema: Any) -> Any:
        return _read_schema(schema) if isinstance(schema, str) else schema

    @model_validator(mode="after")
    def _one(self) -> "StructuredOutputs":
        if len([each for each in (self.json_schema, self.regex, self.choice, self.grammar) if each is not None]) != 1:
            raise PydanticCustomError("not_one", "give exactly one of json, regex, choice and grammar")
        return self


def _read_schema(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PydanticCustomError("not_json", "the schema is not JSON") from None


class JsonSchema(Request):
    """A schema with its name; answers obey it whether `strict` or not."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: JsonObject = Field(default={}, alias="schema")
    strict: bool = False


class ResponseFormat(Request):
    """`text`, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "ResponseFormat":
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise PydanticCustomError("json_schema", "json_schema belongs to the type json_schema, and only to that")
        return self


class StreamOptions(Request):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against traffic analysis; never sent here


def _all_as_0(top_k: Any) -> Any:
    return 0 if type(top_k) is int and top_k == -1 else top_k


class GenerationRequest(Request):
    """What both generating endpoints share."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=128)
    stop: Annotated[StopStrings, WithJsonSchema({"anyOf": [STOP, STOPS]})] = []
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    # without a value these are as the model's folder says
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    top_p: float | None = Field(default=None, ge=0.0, le=1.0)
    top_k: Annotated[int, BeforeValidator(_all_as_0)] | None = Field(
        default=None, ge=0, le=2**31 - 1, description="not in the API; 0 or -1: all"
    )
    max_tokens: int | None = Field(default=None, ge=0)
    frequency_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    presence_penalty: float = Field(default=0.0, ge=-2.0, le=2.0)
    logit_bias: dict[Annotated[int, Field(strict=False, ge=0, lt=2**31)], Annotated[float, Field(ge=-100, le=100)]] = (
        Field(default={}, max_length=MAX_BIASES)
    )
    # not in the API
    min_p: float | None = Field(default=None, ge=0.0, le=1.0)
    repetition_penalty: float | None = Field(default=None, ge=0.1, le=10.0)
    min_tokens: int = Field(default=0, ge=0, le=2**31 - 1)
    ignore_eos: bool = False
    priority: int = Field(default=0, ge=0, le=100, description="waits behind those with a lower one")
    stop_token_ids: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(default=[], max_length=MAX_BIASES)
    structured_outputs: StructuredOutputs | None = None
    cache_salt: CacheSalt | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, data: Any) -> Any:
        for kind in ("json", "regex", "choice", "grammar"):
            if isinstance(data, dict) and data.get(f"guided_{kind}") is not None:
                raise misfit(f"guided_{kind}", f"it is structured_outputs.{kind} now")
        return data

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_more(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> "GenerationRequest":
        if self.stream_options is not None and not self.stream:
            raise misfit("stream_options", "it is only allowed together with stream: true")
        return self

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _as_batch(given: Any) -> Any:
    """One text, one list of token ids, or a batch of either -> a batch; checked by hand for one clear message."""
    batch = [given] if isinstance(given, str) or _is_ids(given) else given
    if not isinstance(batch, list) or not batch or not all(isinstance(p, str) or _is_ids(p) for p in batch):
        raise PydanticCustomError(
            "prompt_type", "it must be a text, a list of token ids, or a list of one or more of these, none empty"
        )
    return batch


Batch = Annotated[list[Prompt], BeforeValidator(_as_batch), WithJsonSchema(_PROMPT)]


class CompletionRequest(GenerationRequest):
    """POST /v1/completions. `prompt` is always a batch."""

    prompt: Batch = [""]
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    best_of: int | None = Field(default=None, ge=1, le=128)
    suffix: Annotated[str, neutral("")] = ""

    @model_validator(mode="after")
    def _fits_together(self) -> "CompletionRequest":
        if self.best_of not in (None, self.n):
            raise misfit("best_of", "this server does not rank samples; leave it out or equal to n")
        if self.max_tokens == 0 and not self.echo:
            raise misfit("max_tokens", "0 is only allowed with echo: true")
        return self


class EmbeddingRequest(Request):
    """POST /v1/embeddings. `input` is always a batch."""

    model: str
    input: Annotated[Batch, WithJsonSchema(_INPUT)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[Any, neutral()] = None

    @field_validator("input")
    @classmethod
    def _few_and_full(cls, batch: list[Prompt]) -> list[Prompt]:
        if len(batch) > MAX_INPUTS:
            raise PydanticCustomError("too_many", f"at most {MAX_INPUTS} inputs are allowed")
        if "" in batch:
            raise PydanticCustomError("empty", "an input must not be empty")
        return batch


class Function(Request):
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")
    description: str | None = None
    parameters: JsonObject = {}
    strict: bool = False


class Tool(Request):
    """A tool as the chat endpoint has it."""

    ignored: ClassVar = IGNORED | {"cache_control"}
    type: Literal["function"]
    function: Function


class FunctionName(Request):
    """The function that must be called."""

    name: str


class NamedTool(Request):
    """A `tool_choice` that names one."""

    type: Literal["function"]
    function: FunctionName


def _as_text(arguments: Any) -> Any:
    try:
        return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments
    except RecursionError:
        raise PydanticCustomError("not_json", "it is nested too deeply") from None


class CalledFunction(Request):
    """What was called, its arguments as JSON text."""

    ignored: ClassVar = IGNORED | {"parsed_arguments"}
    name: str = Field(min_length=1)
    arguments: Annotated[str, BeforeValidator(_as_text)]


class ToolCall(Request):
    """One call in the history of a chat."""

    ignored: ClassVar = IGNORED | {"index"}
    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Request):
    """One message; text parts are joined by line breaks. A `name` is not rendered, as in the templates of others; what
    clients send back of an answer and says nothing to the model (`refusal`, `annotations`, `parsed`) is ignored."""

    ignored: ClassVar = IGNORED | {"parsed"}
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str | None, WithJsonSchema(_CONTENT)] = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[ToolCall] = Field(default=[], max_length=MAX_TOOLS)
    function_call: Annotated[Any, neutral()] = None
    audio: Annotated[Any, neutral()] = None
    refusal: str | None = None
    annotations: list[Any] = []
    _number: int | None = PrivateAttr(default=None)  # in the list that the client sent, where that is another

    @model_validator(mode="before")
    @classmethod
    def _other_words(cls, data: Any) -> Any:
        """As other servers and clients have it: `reasoning`, and no content where a tool says nothing."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if (reasoning := data.pop("reasoning", None)) is not None:
            data.setdefault("reasoning_content", reasoning)
        if data.get("role") == "tool" and data.get("content") is None and "content" in data:
            data["content"] = ""
        return data

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: Any) -> Any:
        if not isinstance(content, list):
            return content
        if not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in content):
            raise PydanticCustomError("unsupported", "only parts of type text are supported")
        return "\n".join(part["text"] for part in content)

    @model_validator(mode="after")
    def _says_something(self) -> "ChatMessage":
        if self.content is None and self.role != "assistant":
            raise PydanticCustomError("no_content", "a message of this role needs a content")
        if self.role == "tool" and self.tool_call_id is None:
            raise PydanticCustomError("no_call", "a message of the role tool needs the tool_call_id of a call")
        if self.role != "assistant" and self.tool_calls:
            raise PydanticCustomError("no_calls", "only a message of the role assistant has tool_calls")
        return self

    @property
    def text(self) -> str:
        """All that a client has written into it."""
        calls = "".join(call.function.name + call.function.arguments for call in self.tool_calls)
        return (self.reasoning_content or "") + (self.content or "") + calls

    def numbered(self, number: int) -> "ChatMessage":
        self._number = number
        return self

    def to_template(self) -> dict[str, Any]:
        """The message as chat templates know it."""
        role = "system" if self.role == "developer" else self.role
        message: dict[str, Any] = {"role": role, "content": self.content or ""}
        if self.reasoning_content is not None:
            message["reasoning_content"] = self.reasoning_content
        if self.role == "tool":
            message["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            message["tool_calls"] = [call.model_dump() for call in self.tool_calls]
        return message


def numbers_of(messages: Sequence[ChatMessage]) -> list[int]:
    """What each is called in errors: counted from 1, in the list that the client sent."""
    return [place if (said := message._number) is None else said for place, message in enumerate(messages, 1)]


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[Tool] = Field(default=[], max_length=MAX_NAMED_TOOLS)
    tool_choice: Literal["none", "auto", "required"] | NamedTool = "auto"
    parallel_tool_calls: bool = True
    chat_template_kwargs: dict[Annotated[str, Field(max_length=64)], bool | int | float | PlainText] = Field(
        default={}, max_length=32, description="not in the API; variables of the template"
    )
    functions: Annotated[Any, neutral([])] = []
    function_call: Annotated[Any, neutral("none", "auto")] = "none"
    response_format: ResponseFormat = ResponseFormat()
    modalities: Annotated[Any, neutral(["text"])] = ["text"]
    audio: Annotated[Any, neutral()] = None
    moderation: Annotated[Any, neutral()] = None
    web_search_options: Annotated[Any, neutral()] = None
    reasoning_effort: Annotated[Any, neutral("none")] = "none"

    @field_validator("tool_choice", mode="before")
    @classmethod
    def _one_message(cls, choice: Any) -> Any:
        """Of one kind or the other, so that what is wrong is told of that kind alone."""
        if isinstance(choice, dict):
            return NamedTool.model_validate(choice)
        if choice not in ("none", "auto", "required"):
            raise PydanticCustomError("tool_choice", "it is none, auto, required, or an object that names a function")
        return choice

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise misfit("top_logprobs", "it is only allowed together with logprobs: true")
        if self.structured_outputs is not None and self.response_format.type != "text":
            raise misfit("structured_outputs", "the response_format says already what the answer must be")
        return self


class TokenizeRequest(Request):
    """POST /tokenize: one text, or messages as the chat template renders them."""

    model: str | None = None
    prompt: str | None = None
    messages: list[ChatMessage] = Field(default=[], max_length=MAX_MESSAGES)
    add_special_tokens: bool = False  # our tokenizers add none of their own, so both values mean the same

    @model_validator(mode="after")
    def _one_of_both(self) -> "TokenizeRequest":
        if (self.prompt is None) != bool(self.messages):
            raise misfit("prompt", "give either prompt or messages")
        return self


class DetokenizeRequest(Request):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[int]
