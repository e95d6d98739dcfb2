"""Settings of the engine."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from inhouse.common.settings import Settings


class EngineSettings(Settings):
    """How much is generated at once."""

    max_sequences: PositiveInt = Field(default=64, description="requests that run at the same time; others wait")
    cache_gib: float = Field(default=1.0, gt=0, description="memory for keys and values at most")
    page_size: PositiveInt = Field(default=16, description="tokens a page")
    max_prefill: PositiveInt = Field(default=2048, description="prompt tokens computed in one step")
    prompt_turn: float | None = Field(
        default=None, gt=0, description="seconds of prompts in a step in which others decode; none: max_prefill alone"
    )
    compile: bool = Field(default=False, description="torch.compile: up to a minute more to start, then faster")
    speculation: Literal["none", "ngram", "model", "mtp"] = Field(
        default="none",
        description="verify in one step what a grammar leaves alone, and what followed the same tokens before (ngram), "
        "draft_model says (model), or the model's own layer for multi-token prediction does (mtp)",
    )
    draft_model: Path | None = Field(
        default=None,
        validate_default=True,
        description="a run or a folder: a smaller model with the same tokenizer, for speculation = model",
    )
    draft_tokens: PositiveInt = Field(default=8, description="tokens that are verified at once, of one sequence")
    weights: Literal["auto", "int8"] = Field(
        default="auto",
        description="auto: as the model has them; int8: rounded to 8 bits, 64 by one scale, for generation on a CPU",
    )

    @field_validator("draft_model")
    @classmethod
    def _is_used(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (info.data.get("speculation") == "model") != (value is not None):
            raise ValueError("draft_model and speculation = model go together: give both, or neither")
        return value


class ServingSettings(EngineSettings):
    """The same for a process that goes on for days, with requests of many: worth a slower start, and all in turn."""

    prompt_turn: float | None = Field(default=0.15, gt=0, description="seconds of prompts in a step with decoding")
    compile: bool = Field(default=True, description="torch.compile: up to a minute more to start, then faster")
    threads: PositiveInt | None = Field(
        default=None, description="that compute; default: all cores, but one where the model is small"
    )
