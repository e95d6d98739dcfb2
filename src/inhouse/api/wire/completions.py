"""POST /v1/completions: what clients may send, and prompts as they may be written."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from inhouse.api.wire.fields import misfit, neutral
from inhouse.api.wire.generation import MAX_TOP_LOGPROBS, GenerationRequest

Prompt = str | list[int]
# what the OpenAPI document says where a validator of ours takes more than the type says
IDS = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_BATCH = {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, IDS]}}
_PROMPT = {"anyOf": [{"type": "string"}, IDS, _BATCH]}


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
