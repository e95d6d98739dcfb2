"""Rollouts that the engine sampled from a small policy, for the tests of what learns from them."""

from collections.abc import Sequence

import numpy as np
import torch
from tests.engine.conftest import DENSE, MOE
from tests.rl.tiny_engine import new_engine

from inhouse.engine.request import SamplingParams
from inhouse.environments.environment import Grade, Problem
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.rl.rollouts import Group, Kept, Rollout

FILLER = 0
SHAPES = {"dense": DENSE, "moe": MOE}


def policy(kind: str, seed: int = 0) -> Transformer:
    """Its answers are neither certain nor even."""
    model = Transformer(ModelConfig.model_validate(SHAPES[kind]))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0.0, 0.25, generator=generator)
    return model


def sampled(
    model: Transformer, num_groups: int = 3, samples: int = 4, max_tokens: int = 12, top_p: float = 0.97
) -> list[Group]:
    """Groups of rollouts; rewards are any."""
    engine, vocab_size = new_engine(model), model.config.vocab_size
    rng = np.random.default_rng(0)
    groups = []
    for number in range(num_groups):
        prompt = rng.integers(2, vocab_size, 3 + 2 * number).tolist()
        params = [
            SamplingParams(
                max_tokens=max_tokens - place, top_p=top_p, seed=100 * number + place, kept=True, experts=True
            )
            for place in range(samples)
        ]
        done = engine.generate([prompt] * samples, params)
        rollouts = [
            Rollout(
                prompt, each.token_ids, np.ones(len(each.token_ids), dtype=bool),
                np.array(each.sampling_logprobs, dtype=np.float32), Kept(*each.kept), each.experts, each.finish_reason,
                each.text, 0,
            )
            for each in done
        ]  # fmt: skip
        rewards = rng.random(samples).tolist()
        groups.append(Group("any", Problem("", ""), rollouts, [Grade(reward, True) for reward in rewards], rewards))
    return groups


def with_tools(group: Group, places: Sequence[int]) -> Group:
    """The same, the tokens at some places of every answer put in by a tool."""
    return group._replace(rollouts=[_with_tools(rollout, places) for rollout in group.rollouts])


def _with_tools(rollout: Rollout, places: Sequence[int]) -> Rollout:
    is_sampled = ~np.isin(np.arange(len(rollout.token_ids)), places)
    assert rollout.kept is not None
    sets = np.split(rollout.kept.ids, rollout.kept.ends[:-1])
    chosen = [each for each, is_own in zip(sets, is_sampled, strict=True) if is_own]
    return rollout._replace(
        is_sampled=is_sampled,
        sampler_logprobs=np.where(is_sampled, rollout.sampler_logprobs, 0).astype(np.float32),
        kept=Kept(np.concatenate(chosen), np.cumsum([len(each) for each in chosen])),
    )
