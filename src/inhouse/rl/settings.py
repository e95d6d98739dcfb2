"""What a recipe says about the climb: reinforcement learning against environments that can check an answer."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from inhouse.common.settings import Settings
from inhouse.environments.registry import check_name
from inhouse.environments.reward import RewardSettings
from inhouse.model.lora.settings import LoraSettings
from inhouse.optim.settings import RATES_OF_A_BASE
from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.train.settings import TrainSettings

RATES_ON_A_BASE = {name: rate / 10 for name, rate in RATES_OF_A_BASE.items()}  # many small steps


class CollapseSettings(Settings):
    """When a climb counts as fallen: then it goes back to its last checkpoint, and meets other problems."""

    window: PositiveInt = Field(default=8, description="last steps whose mean is judged")
    entropy_below: float = Field(default=0.1, ge=0, le=1, description="share of the first entropy that is left")
    entropy_above: PositiveFloat = Field(default=4.0, description="times the first window's entropy")
    reward_drop: float = Field(default=0.5, ge=0, description="of the best window's mean reward that is lost")
    cut_share: float = Field(default=0.5, gt=0, le=1, description="share of answers cut, beyond that at first")
    mismatch_above: PositiveFloat = Field(
        default=0.2, lt=1, description="of the mismatch weight, which is cut off at mismatch_cap, from 1, on average"
    )
    rewinds: int = Field(default=3, ge=0, description="at most; then it ends with its best weights")


class RlSettings(TrainSettings):
    """The `[rl]` table: on which problems, how many answers to each, how long, and what is learnt from them."""

    table: ClassVar[str] = "rl"
    beside_the_result = TrainSettings.beside_the_result | {"workers"}

    environments: dict[Annotated[str, AfterValidator(check_name)], PositiveFloat] = Field(
        default={}, description="problems by environment, with the share of each as a weight; empty: no such stage"
    )
    steps: PositiveInt = Field(default=60, description="optimizer steps")
    minutes: PositiveFloat | None = Field(
        default=None, description="it ends after the step at which so many are over, all attempts together"
    )
    # rollouts
    prompts: PositiveInt = Field(default=16, description="problems of a step: groups of answers that are learnt from")
    samples: PositiveInt = Field(default=16, description="answers to each problem, at most")
    first_samples: PositiveInt = Field(
        default=8, description="answers to each problem before the pass rate says whether it is worth more"
    )
    pass_rate_low: float = Field(default=0.05, ge=0, le=1, description="below: too hard, no further answers")
    pass_rate_high: float = Field(default=0.8, ge=0, le=1, description="above: too easy, no further answers")
    tried: PositiveFloat = Field(
        default=3.0, ge=1, description="problems that are tried for a step at most, as a multiple of prompts"
    )
    max_tokens: PositiveInt = Field(default=128, description="of an answer")
    first_max_tokens: PositiveInt | None = Field(
        default=None, description="at the first step: then it doubles, evenly over the first half of the steps, up to "
        "max_tokens; default: max_tokens",
    )  # fmt: skip
    temperature: PositiveFloat = Field(default=1.0, le=10)
    top_p: float = Field(default=0.97, gt=0, le=1)
    updates: PositiveInt = Field(
        default=1, description="optimizer steps on the answers of one sampling, each on a part of the problems"
    )
    staleness: int = Field(default=0, ge=0, le=64, description="step k learns from answers by the weights of k - this")
    max_sequences: PositiveInt = Field(default=64, le=4096, description="answers that are sampled at the same time")
    cache_gib: PositiveFloat = Field(default=1.0, description="memory for their keys and values at most")
    sequence_length: PositiveInt | None = Field(
        default=None,
        description="tokens of a row, filled with whole problems and answers; default: the context, at most 4,096",
    )
    # verifiers
    workers: PositiveInt = Field(default=2, description="processes that score answers")
    verifier_seconds: PositiveFloat = Field(default=5.0, description="for one answer; what takes longer scores 0")
    most_failures: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of an environment's verdicts that may fail before the climb stops",
    )
    # held-out problems
    evaluate_every: PositiveInt = Field(default=20, description="steps between scores on held-out problems")
    evaluate_problems: PositiveInt = Field(default=32, description="held-out problems of each environment")
    keep_answers: PositiveInt = Field(default=4, description="answers kept of each evaluation, to be looked at")
    objective: ObjectiveSettings = ObjectiveSettings()
    reward: RewardSettings = RewardSettings()
    collapse: CollapseSettings = CollapseSettings()
    lora: LoraSettings | None = Field(
        default=None, description="train adapters of the model's linear maps in place of all its weights; default: all"
    )
    # small, flat rates; what the model knows is to stay
    matrix_lr: PositiveFloat = Field(default=0.0006, description="Muon: matrices and expert stacks")
    embedding_lr: PositiveFloat = Field(default=0.0006, description="AdamW: the embedding")
    head_lr: PositiveFloat = Field(default=0.00006, description="AdamW: the head")
    scalar_lr: PositiveFloat = Field(default=0.00015, description="AdamW: norms and the router")
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices, where it does not oppose the update")
    balance_rate: float = Field(default=0.0, ge=0, description="step of the router's balancing bias")
    warmup_steps: int = Field(default=4, ge=0, description="at most a fifth of the run's steps")
    final_lr_fraction: float = Field(default=1.0, ge=0, le=1, description="1: the rates stay flat")
    clip_norm: PositiveFloat | None = Field(
        default=1.0, description="gradients are scaled to at most this norm, all together"
    )
    dropout: float = Field(default=0.0, ge=0, le=0, description="there is none: answers are sampled without it")
    sequence_balance: float = Field(default=0.0, ge=0, le=0, description="there is none: rewards alone are learnt from")
    z_loss: float = Field(default=0.0, ge=0, le=0, description="there is none, likewise")
    mtp_weight: float = Field(default=0.0, ge=0, le=0, description="a layer that predicts further ahead is left out")
    micro_batch_tokens: PositiveInt | None = Field(default=4096, description="tokens of one forward pass, with filler")
    checkpoint_every: PositiveInt = Field(default=10, description="steps between checkpoints")
    log_every: PositiveInt = Field(default=1, description="steps between lines of metrics.jsonl")

    @model_validator(mode="after")
    def _fits_together(self) -> "RlSettings":
        if self.batch_tokens != type(self).model_fields["batch_tokens"].default:
            raise ValueError("batch_tokens is no setting of a climb, whose steps are prompts × samples; leave it out")
        if self.samples < 2:
            raise ValueError(f"samples = {self.samples}: an advantage needs a group of at least 2 answers")
        if self.prompts % self.updates or self.checkpoint_every % self.updates:
            raise ValueError(
                f"updates = {self.updates}: prompts = {self.prompts} and checkpoint_every = {self.checkpoint_every} "
                "must be multiples of it"
            )
        if self.updates == 1 and self.objective.name == "adaptive" and self.objective.entropy_target is not None:
            raise ValueError(
                "objective.entropy_target steers by what is clipped, and with updates = 1 nothing is: set updates = 2 "
                "or more, or leave it out"
            )
        if self.pass_rate_low > self.pass_rate_high:
            raise ValueError(
                f"pass_rate_low = {self.pass_rate_low} is above pass_rate_high = {self.pass_rate_high}; exchange them"
            )
        if self.first_max_tokens is not None and self.first_max_tokens > self.max_tokens:
            raise ValueError(
                f"first_max_tokens = {self.first_max_tokens} is more than max_tokens = {self.max_tokens}; lower it"
            )
        return self


def climbs(settings: RlSettings) -> bool:
    """Whether a recipe has this stage."""
    return bool(settings.environments)


_LONGEST_ROW = 4096


def row_length(settings: RlSettings, context: int) -> int:
    """Tokens of a row, which a problem and its answer must fit."""
    return min(context, settings.sequence_length or _LONGEST_ROW)


def check_climb(settings: RlSettings, context: int) -> None:
    """Raise `ValueError` where a model of this `context` cannot climb so."""
    if not climbs(settings):
        return
    length = row_length(settings, context)
    if settings.sequence_length is not None and settings.sequence_length > context:
        raise ValueError(
            f"[rl] sequence_length = {settings.sequence_length} is more than the model's context of {context} tokens; "
            "lower it"
        )
    if settings.max_tokens >= length:
        raise ValueError(
            f"[rl] max_tokens = {settings.max_tokens} leaves no room for a problem in {length} tokens, those of a row; "
            f"{length // 2} leaves half of them"
        )
    if settings.is_fp8:
        raise ValueError(f"[rl] precision = {settings.precision}: a climb computes in bf16 or fp32, as it samples")
