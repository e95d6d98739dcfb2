"""A small model that is far from uniform, and rollouts that the engine sampled from it."""

from collections.abc import Sequence

import numpy as np
import torch

from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.environments.environment import Grade, Problem
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.rl.rollouts import Group, Kept, Rollout

VOCABULARY, FILLER = 96, 0
DENSE = {
    "architecture": "qwen3", "vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
    "num_kv_heads": 2, "head_dim": 8, "intermediate_size": 48, "max_position": 128,
}  # fmt: skip
MOE = DENSE | {
    "architecture": "glm4_moe", "num_layers": 3, "num_experts": 8, "num_experts_per_token": 2,
    "moe_intermediate_size": 16, "num_shared_experts": 1, "num_dense_layers": 1,
}  # fmt: skip
CONFIGS = {"dense": DENSE, "moe": MOE}


class Tokenizer:
    """Token 1 ends an answer; what tokens mean does not matter."""

    end_of_document = end_of_turn = 1
    skipped = frozenset((1,))

    def decode_bytes(self, ids: list[int]) -> bytes:
        return b"x" * len(ids)


def policy(kind: str, seed: int = 0) -> Transformer:
    model = Transformer(ModelConfig(**CONFIGS[kind]))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.25, generator=generator))
    model.head_in_fp32 = True
    return model


def sampled(
    model: Transformer, num_groups: int = 3, samples: int = 4, max_tokens: int = 12, top_p: float = 0.97
) -> list[Group]:
    """Groups of rollouts; rewards are any."""
    engine = Engine(model, Tokenizer(), EngineSettings())  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    groups = []
    for number in range(num_groups):
        prompt = rng.integers(2, VOCABULARY, 3 + 2 * number).tolist()
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
