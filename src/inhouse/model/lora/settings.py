"""What a recipe says about adapters."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from inhouse.common.settings import Settings

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "experts"]
TARGETS: tuple[Target, ...] = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "experts",
)  # fmt: skip


class LoraSettings(Settings):
    """Adapters in place of the weights: W x + alpha / rank B A x, of which A and B are trained (Hu et al., 2021)."""

    rank: PositiveInt = Field(default=16, le=4096, description="of each adapter; with experts a multiple of 8")
    alpha: PositiveFloat = Field(default=32.0, description="adapters count alpha / rank times")
    targets: tuple[Target, ...] = Field(
        default=TARGETS,
        min_length=1,
        description="which linear maps have one; gate_proj, up_proj and down_proj of dense layers and shared experts, "
        "experts: every routed one",
    )

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(target for target in TARGETS if target in targets)
