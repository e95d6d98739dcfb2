"""What a recipe says about training: shared by pretraining and fine-tuning."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.checkpoint.settings import CheckpointSettings
from inhouse.common.settings import Settings
from inhouse.model.config import RopeScaling
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
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="of activations and products; masters: fp32")
    compile: bool = Field(default=True, description="torch.compile the step; without a C++ compiler it runs uncompiled")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    log_every: PositiveInt = Field(default=10, description="steps between lines of metrics.jsonl")
    validate_every: PositiveInt = Field(default=100, description="steps between losses on text that is not trained on")


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
