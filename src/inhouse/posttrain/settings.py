"""Settings of supervised fine-tuning."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from inhouse.common.settings import Settings
from inhouse.environments.registry import check_name
from inhouse.model.lora.settings import LoraSettings
from inhouse.train.settings import TrainSettings


class SamplingDefaults(Settings):
    """How the finished model is sampled where a request does not say: generation_config.json."""

    temperature: float = Field(default=0.6, ge=0, le=2, description="0: always the most likely token")
    top_p: float = Field(default=0.95, gt=0, le=1)


TooLong = Literal["leave_out", "truncate", "split"]


class ConversationSource(Settings):
    """One file of conversations, or a folder of them; a plain text in its place is the path."""

    beside_the_result = frozenset({"path", "licence"})

    path: Path
    licence: str = "unknown"
    weight: float = Field(default=1.0, gt=0, le=1000, description="how often an epoch has each; 0.5: every second one")

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value


class SftSettings(TrainSettings):
    """The `[sft]` table: on what, for how long, and how the model is sampled afterwards."""

    beside_the_result = TrainSettings.beside_the_result | {"sampling"}

    conversations: tuple[ConversationSource, ...] = Field(default=(), description="files of conversations, or folders")
    generated: dict[Annotated[str, AfterValidator(check_name)], NonNegativeInt] = Field(
        default={"addition": 4_000, "subtraction": 4_000, "brackets": 1_500, "strings": 3_000, "library": 2_000},
        description="conversations by environment, at most; what is given is all: one that is not named has none",
    )
    lora: LoraSettings | None = Field(
        default=None, description="train adapters of the base's linear maps in place of all its weights; default: all"
    )
    replay: float = Field(
        default=0.25, ge=0, lt=1, description="share of a step's rows that is pretraining text; 0: none"
    )
    too_long: TooLong = Field(default="leave_out", description="of conversations with more than sequence_length tokens")
    epochs: PositiveFloat = Field(default=2.0, description="how often every conversation is seen")
    sequence_length: PositiveInt = Field(default=512, description="tokens of a row, filled with whole conversations")
    sampling: SamplingDefaults = SamplingDefaults()
    # lower rates than in pretraining: the base model's knowledge is to stay
    matrix_lr: PositiveFloat = Field(default=0.01, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=0.03, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=0.0025, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=0.003, description="AdamW: norms and the router")
    mtp_weight: float = Field(default=0.1, ge=0, description="as in pretraining, where DeepSeek-V3 ends with 0.1")

    def rows(self) -> int:
        """Rows of one optimizer step. Raises `ValueError` where they are not whole."""
        return whole_rows(self.batch_tokens, self.sequence_length)


def whole_rows(batch_tokens: int, sequence_length: int) -> int:
    """Rows of a batch. Raises `ValueError` where they are not whole."""
    rows, rest = divmod(batch_tokens, sequence_length)
    if rest or not rows:
        nearest = max(1, round(batch_tokens / sequence_length)) * sequence_length
        raise ValueError(
            f"batch_tokens = {batch_tokens} is not a multiple of sequence_length = {sequence_length}; "
            f"nearest: {nearest}"
        )
    return rows
