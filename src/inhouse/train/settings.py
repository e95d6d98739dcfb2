"""What a recipe says about training: shared by pretraining and fine-tuning."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from inhouse.checkpoint.settings import CheckpointSettings
from inhouse.common.errors import Refusal
from inhouse.common.settings import Settings
from inhouse.model.config import RopeScaling
from inhouse.optim.settings import OptimizerSettings
from inhouse.resilience.settings import ResilienceSettings

_WINDOW = re.compile(r"\d{1,18}:\d{1,18}")

# What concerns only how a run goes on from here: limits, how often it is saved and looked at, how and where a step is
# computed. A finished stage is not made anew for them, and an unfinished one goes on with the new value.
MAY_CHANGE = frozenset(
    {*ResilienceSettings.model_fields, *CheckpointSettings.model_fields}
    | {"log_every", "validate_every", "micro_batch_tokens", "compile", "device", "profile", "wandb"}
)


class TrainSettings(ResilienceSettings, CheckpointSettings, OptimizerSettings):
    """One training stage: its batches, precision and pace, and what optimizer, checkpoints and faults add."""

    beside_the_result = MAY_CHANGE

    batch_tokens: PositiveInt = Field(default=4096, le=1 << 40, description="tokens of one optimizer step")
    micro_batch_tokens: PositiveInt | None = Field(
        default=None, description="tokens of one forward pass, gradients are summed over several; default: the step's"
    )
    balance_rate: float = Field(default=1e-3, ge=0, description="step of the router's balancing bias")
    sequence_balance: float = Field(
        default=0.0, ge=0, description="weight of the balance loss of each sequence (DeepSeek-V3 has 1e-4); not logged"
    )
    z_loss: float = Field(
        default=0.0, ge=0, description="weight of the squared log of the softmax's sum (PaLM has 1e-4); not logged"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of what each half of a block adds to a token that is zeroed"
    )
    mtp_weight: float = Field(
        default=0.3,
        ge=0,
        description="weight of the loss two tokens ahead, logged apart as mtp_loss, where [model] "
        "num_nextn_predict_layers is 1 (DeepSeek-V3 has 0.3); 0: that layer is left out",
    )
    clip_norm: PositiveFloat | None = Field(
        default=None, description="gradients are scaled to at most this norm, all together; default: they are not"
    )
    precision: Literal["bf16", "fp32", "fp8", "fp8_reference"] = Field(
        default="bf16",
        description="of activations and products; masters: fp32. fp8: bf16, but 8-bit floats multiplied in the blocks; "
        "fp8_reference: the same rounding on any device, slow",
    )
    compile: bool = Field(default=True, description="torch.compile the step; without a C++ compiler it runs uncompiled")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: PositiveInt = Field(default=10, description="steps between lines of metrics.jsonl")
    validate_every: PositiveInt = Field(default=100, description="steps between losses on text that is not trained on")
    profile: str | None = Field(
        default=None,
        description="a window of steps for torch's profiler, as 100:105: those behind the 100th to the 105th",
    )
    wandb: str | None = Field(
        default=None, min_length=1, description="the project at Weights & Biases that is told what metrics.jsonl is"
    )

    @property
    def is_fp8(self) -> bool:
        """Whether blocks multiply 8-bit floats; all else is as with bf16."""
        return self.precision.startswith("fp8")

    @field_validator("profile")
    @classmethod
    def _is_window(cls, profile: str | None) -> str | None:
        if profile is not None and not (_WINDOW.fullmatch(profile) and window_of(profile)):
            raise ValueError(f"{profile} is no window of steps; write it as FIRST:LAST, for example 100:105")
        return profile


def window_of(profile: str | None) -> range:
    """The steps, counted from 0, that a `profile` names."""
    return range(*map(int, profile.split(":"))) if profile is not None else range(0)


def check_window(profile: str | None, num_steps: int, table: str) -> None:
    """Raise `Refusal` where the `profile` of a recipe's `table` names steps that the run does not have."""
    window = window_of(profile)
    if window.stop > num_steps:
        length = min(len(window), num_steps)
        raise Refusal(
            f"[{table}] profile = {profile} goes beyond the run's last step, {num_steps:,}; the last such window is "
            f"{num_steps - length}:{num_steps}"
        )


class ShortSequences(Settings):
    """One phase at the beginning of pretraining."""

    until: float = Field(gt=0, lt=1, description="fraction of the steps")
    length: PositiveInt = Field(description="tokens of a sequence, where sequence_length is not less")


class TextSettings(TrainSettings):
    """Training on the text's shards: what pretraining and mid-training share."""

    table: ClassVar[str]  # in a recipe

    sequence_length: PositiveInt = 512
    sequence_warmup: tuple[ShortSequences, ...] = Field(
        default=(), description="shorter sequences first: cheaper, and more of them, from more places, in a step"
    )
    attention: Literal["causal", "document"] = Field(
        default="causal", description="document: no token sees another document, and positions start anew in each"
    )
    tokens: PositiveInt | None = Field(
        default=None, description="tokens to train on; default: tokens_per_parameter says"
    )


class PretrainSettings(TextSettings):
    """The `[pretrain]` table."""

    table = "pretrain"

    tokens_per_parameter: PositiveFloat = Field(default=20.0, le=1e6, description="per active parameter")


Share = Annotated[int, Field(ge=1, le=1000)]


class MidtrainSettings(TextSettings):
    """The `[midtrain]` table: text in longer sequences and another mixture, from the weights that pretraining left."""

    table = "midtrain"

    tokens: PositiveInt | None = Field(default=None, description="tokens to train on; default: no such stage")
    mixture: dict[str, Share] = Field(
        default={},
        description="of every few sequences so many from each source, by its name; one that is not named has none; "
        "empty: all text as it lies",
    )
    rope_scaling: RopeScaling | None = Field(
        default=None, description="YaRN, where sequence_length is more than [model] context; default: the model's"
    )
    # lower rates than in pretraining, as in fine-tuning: what the model knows is to stay
    matrix_lr: PositiveFloat = Field(default=0.01, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=0.03, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=0.0025, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=0.003, description="AdamW: norms and the router")
    mtp_weight: float = Field(default=0.1, ge=0, description="as in pretraining, where DeepSeek-V3 ends with 0.1")
