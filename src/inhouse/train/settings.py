"""What a recipe says about training: shared by pretraining and fine-tuning."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings


class TrainSettings(Settings):
    """Optimizer, schedule and precision of one training stage. Learning rates are for the flat part of the schedule.

    The defaults are what bench/pretrain.py found for the preview's size; what is tuned small can hurt large, so refit
    them on a ladder before a large run.
    """

    batch_tokens: PositiveInt = Field(default=4096, description="tokens of one optimizer step")
    micro_batch_tokens: PositiveInt | None = Field(
        default=None, description="tokens of one forward pass; the step's gradient is summed over several"
    )
    matrix_lr: PositiveFloat = Field(default=0.03, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=0.5, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=0.014, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=0.01, description="AdamW: norms")
    router_lr: PositiveFloat = Field(default=0.001, description="AdamW: the router; faster ones starve experts")
    weight_decay: float = Field(default=0.1, ge=0, description="of matrices, where it does not oppose the update")
    warmup_steps: int = Field(default=20, ge=0)
    decay_fraction: float = Field(default=0.65, gt=0, le=1, description="the last part of the steps: linear decay")
    final_lr_fraction: float = Field(default=0.05, ge=0, le=1)
    balance_rate: float = Field(default=1e-3, ge=0, description="step of the router's balancing bias")
    precision: Literal["bf16", "fp32"] = Field(default="bf16", description="of activations and products; masters: fp32")
    compile: bool = Field(default=True, description="torch.compile the step; without a C++ compiler it runs uncompiled")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_every: PositiveInt = Field(default=200, description="steps between checkpoints")
    log_every: PositiveInt = Field(default=10, description="steps between lines of metrics.jsonl")
    max_skipped_steps: PositiveInt = Field(default=8, description="steps in a row that are not finite: then it stops")
    spike_window: PositiveInt = Field(default=64, description="last losses that a spike is measured against")
    spike_deviations: PositiveFloat = Field(default=10.0, description="above the median of the window: a spike")
    digest_every: PositiveInt = Field(default=100, description="steps between comparisons of the replicas' bits")
    grace_seconds: PositiveFloat = Field(default=25.0, description="from SIGTERM to the end of the last checkpoint")


# how often a run is saved and looked at, and where it runs: a change of these goes on with the same run
NO_PART_OF_THE_RESULT = frozenset({"checkpoint_every", "log_every", "digest_every", "grace_seconds", "device"})


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
    tokens: PositiveInt | None = Field(default=None, description="tokens to train on; else tokens_per_parameter")
    tokens_per_parameter: PositiveFloat = Field(default=20.0, description="per active parameter")
