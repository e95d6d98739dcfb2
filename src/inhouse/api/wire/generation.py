"""What both generating endpoints of OpenAI's API share.

A field that could only be obeyed by doing something that inhouse does not do is refused by name unless it holds its
neutral value; one that changes nothing about the answer (`user`, `store`, …) is ignored; any other is unknown (400).
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from inhouse.api.wire.fields import STOP, STOPS, CacheSalt, Request, StopStrings, misfit
from inhouse.api.wire.forms import StructuredOutputs

MAX_TOP_LOGPROBS = 20
MAX_BIASES = 1024


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
