"""What a recipe says about export."""

from typing import Literal, get_args

from pydantic import Field

from inhouse.common.settings import Settings

PlainType = Literal["F32", "F16", "BF16", "Q8_0"]  # written here
QuantizedType = Literal["Q6_K", "Q4_K_M"]  # by llama.cpp's quantizer
QUANTIZED: tuple[QuantizedType, ...] = get_args(QuantizedType)

NO_RAMP = (
    "[export] gguf: rope_scaling has beta_fast = {scaling.beta_fast:g} and beta_slow = {scaling.beta_slow:g}, and "
    "llama.cpp computes only 32 and 1; set these, or leave the GGUF files out (gguf = [])"
)
BLOCK = 256  # numbers that such a type keeps together


class ExportSettings(Settings):
    """Which files leave the house, and how exactly their weights are kept."""

    weights: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the Hugging Face folder; bf16 halves it, and is what training computed in"
    )
    gguf: tuple[Literal[PlainType, QuantizedType], ...] = Field(
        default=("F32", "F16", "Q8_0"),
        description="one GGUF file for each of these; none where empty. Q6_K and Q4_K_M need inhouse[quantize]",
    )
