"""What a recipe says about export."""

from typing import Literal

from pydantic import Field

from inhouse.common.settings import Settings


class ExportSettings(Settings):
    """Which files leave the house, and how exactly their weights are kept."""

    weights: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the Hugging Face folder; bf16 halves it, and is what training computed in"
    )
    gguf: tuple[Literal["F32", "F16", "BF16", "Q8_0"], ...] = Field(
        default=("F32", "F16", "Q8_0"), description="one GGUF file for each of these; none where empty"
    )
