"""What products of 8-bit floats need of a model's shape. No torch: a recipe is checked with it."""

from inhouse.model.config import ModelConfig

_GRAIN = 16  # bytes that a tensor core's load is aligned to: so many 8-bit numbers


def check_sides(config: ModelConfig, tokens: int, table: str) -> None:
    """Raise `ValueError` where a matrix of the blocks has a side that is no multiple of 16.

    `tokens` of a sequence are with one process. `table` of the recipe asks for 8 bits.
    """
    sides = {
        "[model] hidden_size": config.hidden_size,
        "[model] num_heads × head_dim": config.num_heads * config.head_dim,
        "[model] num_kv_heads × head_dim": config.num_kv_heads * config.head_dim,
        f"[{table}] sequence_length / context": tokens,
    }
    if config.num_dense_layers or not config.is_moe:
        sides["[model] intermediate_size"] = config.intermediate_size
    if config.is_moe:
        sides["[model] moe_intermediate_size"] = config.moe_intermediate_size
    for name, side in sides.items():
        if side % _GRAIN:
            nearest = max(1, round(side / _GRAIN)) * _GRAIN
            raise ValueError(
                f"{name} = {side} is no multiple of {_GRAIN}, as sides of matrices must be for [{table}] precision = "
                f"fp8; nearest: {nearest}"
            )
