"""The sampler's log-probabilities against the learner's, on the same weights, as a climb runs.

    .venv/bin/python bench/rl_parity.py [--model FOLDER] [--eager] [--tokens 64] [--write]

The learner computes in bf16, compiled; the engine samples from the copy that a climb fills after each update
(`SampledWeights`), with top_p 0.97 at temperature 1. What the learner gives each sampled token is compared with what
the sampler gave it, with the sampler's experts and sets of possible tokens replayed, and without. Without --model: a
dense and an MoE model with random weights of the preview's width, asked random tokens; with it, that model, asked
additions. Exits with 1 where, with both replayed, log-probabilities differ by more than 1e-2 in the mean, or the mean
of the truncated weight differs from 1 by more than 1e-3; in fp32, uncompiled, where any differs by more than 1e-5.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from inhouse.checkpoint.model_folder import load_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.environments.environment import Grade, Problem
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import encode_prompt
from inhouse.posttrain.opened_model import read_chat_template, read_generation
from inhouse.rl.learner import PolicyStep
from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.policy_batch import pack_groups
from inhouse.rl.rollouts import Group, Kept, Rollout
from inhouse.rl.weights import SampledWeights
from inhouse.train.settings import TrainSettings

RESULTS = Path(__file__).parent / "results"
DENSE = {
    "architecture": "qwen3", "vocab_size": 4096, "hidden_size": 256, "num_layers": 4, "num_heads": 4,
    "num_kv_heads": 2, "head_dim": 64, "intermediate_size": 768, "max_position": 1024,
}  # fmt: skip
MOE = DENSE | {
    "architecture": "glm4_moe", "num_experts": 16, "num_experts_per_token": 4, "moe_intermediate_size": 128,
    "num_shared_experts": 1, "num_dense_layers": 1,
}  # fmt: skip
SAMPLES, LENGTH, TOP_P = 4, 256, 0.97


class Policy(NamedTuple):
    """A model to be trained, and what to ask it; any tokenizer will do where its answers are not read."""

    name: str
    model: Transformer
    tokenizer: Tokenizer
    prompts: list[list[int]]
    end_ids: tuple[int, ...]


class Gap(NamedTuple):
    """Between the learner's log-probabilities and the sampler's: `weight` is the mean of the truncated weight."""

    tokens: int
    mean: float
    most: float
    above: float  # share of tokens where it is more than 1e-2
    weight: float

    def holds(self, precision: str) -> bool:
        if precision == "fp32":
            return self.most <= 1e-5
        return self.mean <= 1e-2 and abs(self.weight - 1.0) <= 1e-3


def random_policy(name: str, shape: dict[str, object], num_prompts: int) -> Policy:
    """Weights whose every part matters to the next token, with logits that spread as a trained model's do."""
    model = Transformer(ModelConfig.model_validate(shape))
    model.initialize(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 and weight.std() < 0.01:  # which `initialize` leaves at zero, or nearly
                weight.normal_(0.0, weight.shape[-1] ** -0.5, generator=generator)
        model.lm_head.weight *= 2.0
    prompts = torch.randint(0, model.config.vocab_size, (num_prompts, 48), generator=generator).tolist()
    return Policy(name, model, Tokenizer.train([Path(__file__).read_text()], 300), prompts, ())


def policy_in(folder: Path, num_prompts: int) -> Policy:
    tokenizer, template = Tokenizer.load(folder), read_chat_template(folder)
    if template is None:
        raise SystemExit(f"{folder} has no chat template: fine-tune it first")
    problems = ENVIRONMENTS["addition"].draw("heldout", num_prompts, 0, None)
    prompts = [
        encode_prompt(tokenizer, [{"role": "user", "content": problem.prompt}], template) for problem in problems
    ]
    return Policy(str(folder), load_model(folder), tokenizer, prompts, read_generation(folder).end_ids)


def sampled(policy: Policy, precision: str, compiles: bool, num_tokens: int) -> tuple[PolicyStep, list[Group]]:
    """A step of the policy, and what was sampled by a copy of its weights."""
    settings = TrainSettings(
        batch_tokens=8 * LENGTH, micro_batch_tokens=8 * LENGTH, precision=precision, compile=compiles, mtp_weight=0.0
    )
    policy.model.mtp = None
    policy.model.dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    step = PolicyStep(policy.model, settings, ObjectiveSettings())
    if compiles:
        step.compile()
    weights = SampledWeights(policy.model, compiles)
    engine = Engine(weights.model, policy.tokenizer, EngineSettings(compile=compiles), policy.end_ids)
    groups = []
    for number, prompt in enumerate(policy.prompts):
        params = [
            SamplingParams(max_tokens=num_tokens, top_p=TOP_P, seed=number * SAMPLES + each, kept=True, experts=True)
            for each in range(SAMPLES)
        ]
        rollouts = [
            Rollout(
                prompt, each.token_ids, np.ones(len(each.token_ids), dtype=bool),
                np.array(each.sampling_logprobs, dtype=np.float32), None if each.kept is None else Kept(*each.kept),
                each.experts, each.finish_reason, each.text, 0,
            )
            for each in engine.generate([prompt] * SAMPLES, params)
        ]  # fmt: skip
        rewards = [float(each % 2) for each in range(SAMPLES)]
        groups.append(Group("any", Problem("", ""), rollouts, [Grade(reward, True) for reward in rewards], rewards))
    return step, groups


def gap(step: PolicyStep, groups: list[Group], replay: ObjectiveSettings) -> Gap:
    batch = step.with_old_logprobs(step.share(pack_groups(groups, LENGTH, 0, replay)))
    assert batch.old_logprobs_BT is not None
    apart = (batch.old_logprobs_BT - batch.sampler_logprobs_BT)[batch.is_trained_BT].double()
    weight = apart.exp().clamp(max=replay.mismatch_cap).mean().item()
    above = (apart.abs() > 1e-2).double().mean().item()
    return Gap(len(apart), apart.abs().mean().item(), apart.abs().max().item(), above, weight)


def measured(policies: list[Policy], modes: list[tuple[str, bool]], num_tokens: int) -> Iterator[tuple[str, bool]]:
    """Lines of the table, each with whether it holds its bar."""
    for policy in policies:
        for precision, compiles in modes:
            step, groups = sampled(policy, precision, compiles, num_tokens)
            for kept, experts in ((True, True), (True, False), (False, True)):
                if not experts and not policy.model.config.is_moe:
                    continue
                found = gap(step, groups, ObjectiveSettings(replay_kept=kept, replay_experts=experts))
                has_bar, holds = kept and experts, found.holds(precision)
                said = ("yes" if holds else "**no**") if has_bar else ""
                how = f"{precision}, {'compiled' if compiles else 'uncompiled'}"
                yield (
                    f"| {policy.name} | {how} | {'yes' if kept else 'no'} | {'yes' if experts else 'no'} | "
                    f"{found.tokens:,} | {found.mean:.1e} | {found.most:.1e} | {found.above:.2%} | "
                    f"{found.weight:.6f} | {said} |",
                    holds or not has_bar,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a folder with a chat template, instead of random weights")
    parser.add_argument("--eager", action="store_true", help="bf16 uncompiled: compiling takes minutes")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    parser.add_argument("--write", action="store_true", help="write bench/results/rl_parity.md")
    arguments = parser.parse_args()
    if arguments.model is not None:
        policies = [policy_in(arguments.model, arguments.prompts)]
    else:
        shapes = {"dense, random": DENSE, "MoE, random": MOE}
        policies = [random_policy(name, shape, arguments.prompts) for name, shape in shapes.items()]
    lines = [
        "| model | computed in | sampler's sets | sampler's experts | tokens | mean gap | largest gap | above 1e-2 | "
        "mean weight | holds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    all_hold = True
    for line, holds in measured(policies, [("fp32", False), ("bf16", not arguments.eager)], arguments.tokens):
        print(line, flush=True)
        lines.append(line)
        all_hold &= holds
    if arguments.write:
        text = [
            "# Sampler and learner on the same weights", "",
            f"`.venv/bin/python bench/rl_parity.py {' '.join(sys.argv[1:])}`, {platform.machine()}, {os.cpu_count()} "
            f"cores, torch {torch.__version__}. Gaps of log-probabilities in nats, over sampled tokens; bars: the "
            "largest 1e-5 in fp32; the mean 1e-2 in bf16, with the mean of the truncated weight within 1e-3 of 1.",
            "", *lines,
        ]  # fmt: skip
        (RESULTS / "rl_parity.md").write_text("\n".join(text) + "\n")
    sys.exit(not all_hold)


if __name__ == "__main__":
    main()
