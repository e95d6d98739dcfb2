"""What a recipe says about training: shared by pretraining and fine-tuning."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.checkpoint.settings import CheckpointSettings
from inhouse.common.settings import Settings
from inhouse.optim.settings import OptimizerSettings
from inhouse.resilience.settings import ResilienceSettings

# What concerns only how a run goes on from here: limits, how often it is saved and looked at, how and where a step is
# computed. A finished stage is not made anew for them, and an unfinished one goes on with the new value.
MAY_CHANGE = frozenset(
    {*ResilienceSettings.model_fields, *CheckpointSettings.model_fields}
    | {"log_every", "validate_every", "micro_batch_tokens", "compile", "device"}
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
    clip_norm: PositiveFloat | None = Field(
        default=None, description="gradients are scaled to at most this norm, all together; default: they are not"
    )
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="of activations and products; masters: fp32")
    compile: bool = Field(default=True, description="torch.compile the step; without a C++ compiler it runs uncompiled")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: PositiveInt = Field(default=10, description="steps between lines of metrics.jsonl")
    validate_every: PositiveInt = Field(default=100, description="steps between losses on text that is not trained on")


class ShortSequences(Settings):
    """One phase at the beginning of pretraining."""

    until: float = Field(gt=0, lt=1, description="fraction of the steps")
    length: PositiveInt = Field(description="tokens of a sequence, where sequence_length is not less")


class PretrainSettings(TrainSettings):
    """The `[pretrain]` table."""

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
    tokens_per_parameter: PositiveFloat = Field(default=20.0, le=1e6, description="per active parameter")
