"""How much better than its group a rollout was."""

from collections.abc import Sequence

import numpy as np


def advantages(rewards: Sequence[float], divides_by_deviation: bool = False) -> np.ndarray:
    """Reward less the group's mean, one a rollout, fp64.

    Not divided by the group's deviation, which would make more of problems that are nearly solved or hopeless (Liu et
    al., "Understanding R1-Zero-like training", 2025), unless the objective was published so (Shao et al., "GRPO",
    2024). Raises `ValueError` for a group of one.
    """
    if len(rewards) < 2:
        raise ValueError(f"a group of {len(rewards)} rollouts has no advantage; sample at least 2 of each problem")
    own = np.asarray(rewards, dtype=np.float64)
    centred = own - own.mean()
    if not divides_by_deviation:
        return centred
    if own.min() == own.max():  # their mean may be off by a rounding, which the deviation would blow up to 1
        return np.zeros_like(own)
    return centred / own.std()
