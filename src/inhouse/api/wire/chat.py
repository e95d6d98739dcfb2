"""POST /v1/chat/completions: what clients may send."""

from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from inhouse.api.wire.chat_messages import MAX_MESSAGES, ChatMessage
from inhouse.api.wire.fields import OneOf, Request, misfit, neutral
from inhouse.api.wire.forms import ResponseFormat
from inhouse.api.wire.generation import MAX_TOP_LOGPROBS, GenerationRequest
from inhouse.api.wire.tools import MAX_NAMED_TOOLS, AllowedChoice, NamedTool, Tool

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
PlainText = Annotated[str, Field(max_length=1000)]


class ChatRequest(GenerationRequest):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    tools: list[Tool] = Field(default=[], max_length=MAX_NAMED_TOOLS)
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | NamedTool | AllowedChoice,
        OneOf({"function": NamedTool, "allowed_tools": AllowedChoice}, words=("none", "auto", "required")),
    ] = "auto"
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
    reasoning_effort: Effort | None = None
    thinking_token_budget: int | None = Field(default=None, ge=0, description="not in the API; tokens of thinking")

    _said: Request | None = PrivateAttr(default=None)

    @property
    def said(self) -> Request | None:
        """The request of another API that it was made of: who speaks that one too says it as it was said."""
        kept = self.__pydantic_private__  # `self._said` takes pydantic twenty times as long
        return None if kept is None else kept["_said"]

    def said_as(self, said: Request) -> "ChatRequest":
        self._said = said
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise misfit("top_logprobs", "it is only allowed together with logprobs: true")
        if self.reasoning_effort == "none" and self.thinking_token_budget:
            raise misfit("thinking_token_budget", "reasoning_effort says that the model does not think")
        if self.structured_outputs is not None and self.response_format.type != "text":
            raise misfit("structured_outputs", "the response_format says already what the answer must be")
        return self
