"""POST /v1/embeddings: what clients may send."""

from typing import Annotated, Any, Literal

from pydantic import WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from inhouse.api.wire.completions import IDS, Batch, Prompt
from inhouse.api.wire.fields import CacheSalt, Request, neutral

MAX_INPUTS = 2048  # texts of one request for embeddings, as in the API
_FILLED = {"type": "string", "minLength": 1}
_INPUTS = {"type": "array", "minItems": 1, "maxItems": MAX_INPUTS, "items": {"anyOf": [_FILLED, IDS]}}
_INPUT = {"anyOf": [_FILLED, IDS, _INPUTS]}


class EmbeddingRequest(Request):
    """POST /v1/embeddings. `input` is always a batch."""

    model: str
    input: Annotated[Batch, WithJsonSchema(_INPUT)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[Any, neutral()] = None
    cache_salt: CacheSalt | None = None

    @field_validator("input")
    @classmethod
    def _few_and_full(cls, batch: list[Prompt]) -> list[Prompt]:
        if len(batch) > MAX_INPUTS:
            raise PydanticCustomError("too_many", f"at most {MAX_INPUTS} inputs are allowed")
        if "" in batch:
            raise PydanticCustomError("empty", "an input must not be empty")
        return batch
