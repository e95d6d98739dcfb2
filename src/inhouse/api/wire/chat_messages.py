"""The messages of a chat."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from inhouse.api.wire.fields import IGNORED, Request, neutral
from inhouse.api.wire.images import MAX_IMAGES, Image, Part, image, joined, takes_images
from inhouse.api.wire.tools import MAX_TOOLS

MAX_MESSAGES = 4096  # rendering ten times as many holds up everybody's streams for half a second
_TEXT = {"type": {"const": "text"}, "text": {"type": "string"}}
_PART = {"type": "object", "required": ["type", "text"], "properties": _TEXT}
_CONTENT = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}, {"type": "null"}]}


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

    # the last three are LiteLLM's and OpenRouter's, and say again what `reasoning_content` says
    ignored: ClassVar = IGNORED | {
        "parsed", "cache_control", "thinking_blocks", "reasoning_details", "provider_specific_fields",
    }  # fmt: skip
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
    _parts: tuple[Part, ...] = PrivateAttr(default=())  # no field, so that nobody gets images past `takes_images`

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
    def _join_parts(cls, content: Any, info: ValidationInfo) -> Any:
        return joined(_parts(content, info)) if isinstance(content, list) else content

    @model_validator(mode="wrap")
    @classmethod
    def _keep_images(cls, data: Any, handler: ModelWrapValidatorHandler["ChatMessage"], info: ValidationInfo) -> Any:
        message = handler(data)
        if takes_images(info) and isinstance(data, dict) and isinstance(data.get("content"), list):
            message.with_parts(_parts(data["content"], info))
        return message

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

    @property
    def parts(self) -> tuple[Part, ...]:
        """Texts and images in their order; nothing where there is no image."""
        kept = self.__pydantic_private__  # `self._parts` takes pydantic twenty times as long, several times a call
        return () if kept is None else kept["_parts"]

    @property
    def images(self) -> list[Image]:
        return [part for part in self.parts if isinstance(part, Image)]

    def with_parts(self, parts: Sequence[Part]) -> "ChatMessage":
        """The same message, of which `content` is the text alone."""
        has_images = any(isinstance(part, Image) for part in parts)
        if has_images and self.role not in ("user", "tool"):
            raise PydanticCustomError("no_images", "only a message of the role user or tool has images")
        self._parts = tuple(parts) if has_images else ()
        return self

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


def _parts(content: list[Any], info: ValidationInfo) -> list[Part]:
    parts: list[Part] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            parts.append(part["text"])
        elif kind == "image_url" and takes_images(info):
            given = part.get("image_url")
            given = given if isinstance(given, dict) else {"url": given}
            parts.append(image(given.get("url"), given.get("detail") or "auto"))
        else:
            kinds = "text and image_url" if takes_images(info) else "text"
            raise PydanticCustomError("unsupported", f"only parts of type {kinds} are supported")
    if sum(isinstance(part, Image) for part in parts) > MAX_IMAGES:
        raise PydanticCustomError("too_many", f"at most {MAX_IMAGES} images in a message are allowed")
    return parts


def numbers_of(messages: Sequence[ChatMessage]) -> list[int]:
    """What each is called in errors: counted from 1, in the list that the client sent."""
    return [place if (said := message._number) is None else said for place, message in enumerate(messages, 1)]
