"""POST /tokenize and /detokenize: what clients may send."""

from pydantic import Field, model_validator

from inhouse.api.wire.chat_messages import MAX_MESSAGES, ChatMessage
from inhouse.api.wire.fields import Request, misfit


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
