"""Settings of the evaluate stage."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from inhouse.common.settings import Settings
from inhouse.environments.registry import check_name


class EndpointSettings(Settings):
    """How an endpoint is asked."""

    concurrency: PositiveInt = Field(default=8, le=256, description="requests at a time")
    temperature: float = Field(
        default=0.0,
        le=2.0,
        allow_inf_nan=False,
        description="of answers; below 0: left to the endpoint, for models that refuse to be told",
    )
    max_tokens: PositiveInt | None = Field(
        default=None, description="of an answer, thinking included; default: as its task says"
    )
    prices: Path | None = Field(default=None, description="a TOML file of prices; without one costs are unknown")


class EvaluateSettings(Settings):
    """What is measured, and on how much."""

    context: PositiveInt | None = Field(default=None, description="tokens of a window; default: the model's context")
    stride: PositiveInt | None = Field(default=None, description="tokens between windows; default: half the context")
    xz_training_bytes: NonNegativeInt = Field(
        default=16 << 20, description="of the training text, how much xz reads first; 0: leave xz out"
    )
    environments: tuple[Annotated[str, AfterValidator(check_name)], ...] | None = Field(
        default=None, description="whose held-out problems are asked; default: those that the model was fine-tuned on"
    )
    problems_per_kind: NonNegativeInt = Field(default=150, description="from each environment that scores replies")
    unscored_per_kind: NonNegativeInt = Field(default=100, description="from each that does not: do the replies end?")
    max_answer_tokens: PositiveInt = Field(default=256, description="an answer that is longer does not end by itself")
    dtype: Literal["fp32", "bf16"] = Field(default="fp32", description="what the model computes in")
    seed: int = Field(default=1, ge=0, description="of the held-out problems that are drawn")

    def context_of(self, max_position: int) -> int:
        """Tokens of a window for a model that sees `max_position` of them."""
        return min(self.context or max_position, max_position)
