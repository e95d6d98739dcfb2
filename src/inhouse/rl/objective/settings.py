"""What a recipe says about the objective of a climb."""

from typing import Literal

from pydantic import Field, PositiveFloat

from inhouse.common.settings import Settings

ObjectiveName = Literal["adaptive", "dapo", "cispo", "gspo", "dppo"]


class ObjectiveSettings(Settings):
    """The objective and its numbers; those that an objective does not know change nothing."""

    name: ObjectiveName = Field(
        default="adaptive",
        description="adaptive: PPO's clip with an upper bound steered towards entropy_target and an outer clip; dapo, "
        "cispo, gspo, dppo: as published",
    )
    clip_low: PositiveFloat | None = Field(
        default=None,
        description="how far below 1 a ratio counts; default: adaptive and dapo 0.2, gspo 3e-4, cispo 1; of dppo, how "
        "far a token's probability may move (0.15)",
    )
    clip_high: PositiveFloat | None = Field(
        default=None, description="how far above 1 a ratio counts; default: dapo 0.28, gspo 4e-4, cispo 4"
    )
    mismatch_cap: PositiveFloat = Field(
        default=2.0,
        description="most that a token counts for where the learner gives it more probability than the sampler did",
    )
    entropy_target: PositiveFloat | None = Field(
        default=None,
        description="nats a token that adaptive steers towards, by how much more likely a token may become in a step; "
        "default: it does not steer. Takes updates > 1: with one, nothing is ever clipped",
    )
    widening_step: PositiveFloat = Field(default=0.01, description="of the upper bound, an optimizer step")
    widening_most: float = Field(default=0.5, ge=0, description="of the upper bound, at most")
    ratio_min: float = Field(default=0.1, ge=0, lt=1, description="the outer clip of adaptive: no ratio counts as less")
    ratio_max: float = Field(default=4.0, gt=1, description="the outer clip of adaptive: no ratio counts as more")
    replay_kept: bool = Field(
        default=True, description="the learner's softmax is over the tokens that the sampler's truncation left"
    )
    replay_experts: bool = Field(default=True, description="the learner takes the experts that the sampler chose")
