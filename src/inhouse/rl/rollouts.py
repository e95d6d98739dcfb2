"""What reinforcement learning learns from: sampled answers to a problem, and what they are worth.

Shapes: T sampled and tools' tokens behind the prompt, K experts a token.
"""

from typing import NamedTuple

import numpy as np

from inhouse.engine.request import Kept
from inhouse.environments.environment import Grade, Problem


class Rollout(NamedTuple):
    """One sampled answer.

    `token_ids` is all behind the prompt, the output of tools included: there `is_sampled` (T,) bool is False, nothing
    is learnt and `sampler_logprobs` (T,) fp32, under the truncated distribution that a token was drawn from, are 0.
    `kept` has a position for each sampled token, in their order; None where nothing was truncated. `experts` (prompt +
    T - 1, MoE layers, K) int16, -1 where not known; None without experts. `weights_step` counts the optimizer steps
    of the weights that sampled it. `text` is the last turn's, `earlier` what the model wrote in those before it.
    """

    prompt_ids: list[int]
    token_ids: list[int]
    is_sampled: np.ndarray
    sampler_logprobs: np.ndarray
    kept: Kept | None
    experts: np.ndarray | None
    finish_reason: str
    text: str
    weights_step: int
    earlier: str = ""


class Group(NamedTuple):
    """All rollouts of one problem: `grades` of the environment's verifier, `rewards` that are learnt from.

    `environment` is its name, with the level where it has levels: `sums:3`.
    """

    environment: str
    problem: Problem
    rollouts: list[Rollout]
    grades: list[Grade]
    rewards: list[float]
