"""What a recipe says about adapters."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from inhouse.common.settings import Settings
from inhouse.model.config import ModelConfig

Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "experts"]
TARGETS: tuple[Target, ...] = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "experts",
)  # fmt: skip
_GRAIN = 8  # a GPU multiplies groups whose rows have a multiple of 16 bytes


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

    def check(self, table: str, config: ModelConfig, pipeline: int) -> None:
        """Raise `ValueError` where a model of `config`, cut into `pipeline` parts, cannot have them; `table` asks."""
        if pipeline > 1:
            raise ValueError(
                f"[{table}] lora does not go with [parallel] pipeline = {pipeline}, whose schedules give every weight "
                "a gradient; set pipeline = 1"
            )
        if "experts" in self.targets and config.is_moe and self.rank % _GRAIN:
            nearest = max(_GRAIN, round(self.rank / _GRAIN) * _GRAIN)
            raise ValueError(
                f"[{table}] lora: rank = {self.rank} is not a multiple of {_GRAIN}, as experts need; nearest: {nearest}"
            )
        if self.targets == ("experts",) and not config.is_moe:
            raise ValueError(f"[{table}] lora: targets = experts, and {config.architecture} is dense and has none")

    @field_validator("targets")
    @classmethod
    def _each_once(cls, targets: tuple[Target, ...]) -> tuple[Target, ...]:
        return tuple(target for target in TARGETS if target in targets)
