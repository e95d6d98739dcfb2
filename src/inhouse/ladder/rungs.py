"""The sizes of a ladder: one recipe at several depths, everything else by the size dial, tokens by the parameters."""

from collections.abc import Sequence
from typing import NamedTuple

from inhouse.checkpoint.shape import resolve_shape
from inhouse.model.config import ModelConfig
from inhouse.model.sizes import ModelSettings
from inhouse.recipe.dial import dialled
from inhouse.recipe.recipe import Recipe
from inhouse.train.settings import PretrainSettings
from inhouse.train.step_count import plan_steps

_DEPTH_OF_A_QUARTER = 0.25 ** (1 / 6)  # compute grows as depth^6: parameters as its cube, and tokens with them
_FEWEST_STEPS = 8
_MULTIPLE = 32  # of widths inside a block


class Rung(NamedTuple):
    """One recipe at one size. `share` is its depth over the recipe's own, `flops` what training it takes."""

    recipe: Recipe
    config: ModelConfig
    tokens: int

    @property
    def active(self) -> int:
        return self.config.count_parameters().active

    @property
    def flops(self) -> float:
        """As `train.flops` counts them, each phase of short sequences at its length."""
        from inhouse.train.flops import flops_per_token  # here: it loads torch

        settings, begun, total = self.recipe.pretrain, 0.0, 0.0
        full = settings.sequence_length
        for until, length in (*((p.until, min(p.length, full)) for p in settings.sequence_warmup), (1.0, full)):
            total += (until - begun) * flops_per_token(self.config, length)
            begun = until
        return total * self.tokens


def check_recipe(recipe: Recipe) -> None:
    """Raise `ValueError` for a recipe that no ladder can be made of."""
    if recipe.model.base is not None:
        raise ValueError("[model] base: a ladder trains from random weights at several sizes; leave the base out")


def depths(top: int, count: int) -> list[int]:
    """So many depths up to `top`, each of about a quarter of the compute of the next, or of one layer less.

    Raises `ValueError` where there are not as many.
    """
    found = _down_from(top)
    if len(found) < count:
        raise ValueError(
            f"--rungs {count}: from a depth of {top} down there are {len(found)}; ask for at most {len(found)} rungs, "
            "or give a larger --top, the depth of the largest"
        )
    return found[count - 1 :: -1]


def _down_from(top: int) -> list[int]:
    found = [top]
    while (smaller := min(found[-1] - 1, round(found[-1] * _DEPTH_OF_A_QUARTER))) >= 1:
        found.append(smaller)
    return found


def tokens_per_parameter(recipe: Recipe) -> float:
    """What a recipe trains on, over its active parameters, at its own size."""
    config, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
    steps, _ = plan_steps(recipe.pretrain, config, recipe.parallel)
    return steps * recipe.pretrain.batch_tokens / config.count_parameters().active


def rung(recipe: Recipe, share: float, per_parameter: float, seed: int) -> Rung:
    """The recipe at `share` of its depth, with so many tokens an active parameter.

    The shape keeps the proportions of the recipe's own. What the dial gives keeps its ratio to the dial, so that a
    recipe with half the dial's rate has half of it at every rung. Raises `ValueError` where numbers do not fit.
    """
    own, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
    config, _ = resolve_shape(model := _scaled(recipe.model, own, share), recipe.tokenizer.vocab_size)
    pretrain = _dialled(recipe.pretrain, own, config)
    tokens = round(per_parameter * config.count_parameters().active)
    steps = tokens // pretrain.batch_tokens
    if steps < _FEWEST_STEPS:
        raise ValueError(
            f"depth {config.num_layers}: {tokens:,} tokens are {steps} steps of {pretrain.batch_tokens:,}, fewer than "
            f"{_FEWEST_STEPS}; give more --tokens-per-parameter, a larger --top, or fewer [pretrain] batch_tokens"
        )
    pretrain = pretrain.model_copy(update={"tokens": steps * pretrain.batch_tokens})
    plan_steps(pretrain, config, recipe.parallel)
    scaled = recipe.model_copy(update={"model": model, "pretrain": pretrain, "seed": seed})
    return Rung(scaled, config, steps * pretrain.batch_tokens)


def _scaled(model: ModelSettings, own: ModelConfig, share: float) -> ModelSettings:
    depth = max(1, round(own.num_layers * share))
    heads = max(1, round(own.num_heads * share))
    width = max(own.head_dim, round(own.hidden_size * share / own.head_dim) * own.head_dim)
    most = max(1, heads * own.num_kv_heads // own.num_heads)
    values = {
        "depth": depth,
        "hidden_size": width,
        "num_heads": heads,
        "head_dim": own.head_dim,
        "num_kv_heads": max(count for count in range(1, most + 1) if heads % count == 0),
        "intermediate_size": _near(own.intermediate_size * width / own.hidden_size),
        "rope_theta": own.rope_theta,
    }
    if own.is_moe:
        values |= {
            "num_experts": own.num_experts,
            "num_experts_per_token": own.num_experts_per_token,
            "moe_intermediate_size": _near(own.moe_intermediate_size * width / own.hidden_size),
            "num_shared_experts": own.num_shared_experts,
            "num_dense_layers": min(own.num_dense_layers, depth - 1),
            "num_expert_groups": own.num_expert_groups,
            "num_groups_per_token": own.num_groups_per_token,
        }
    return model.model_copy(update=values)


def _dialled(settings: PretrainSettings, own: ModelConfig, config: ModelConfig) -> PretrainSettings:
    before = dialled(settings, own.num_layers, own.hidden_size)
    after = dialled(settings, config.num_layers, config.hidden_size)
    values = {name: after[name] * getattr(settings, name) / before[name] for name in after}
    length = settings.sequence_length
    batch = max(1, round(values["batch_tokens"] / length)) * length
    values |= {"batch_tokens": batch, "warmup_steps": round(values["warmup_steps"])}
    micro = settings.micro_batch_tokens
    if micro is not None and (micro >= batch or batch % micro):
        values["micro_batch_tokens"] = None
    return settings.model_copy(update=values)


def _near(value: float) -> int:
    return max(1, round(value / _MULTIPLE)) * _MULTIPLE


def check_passes(rungs: Sequence[Rung], text_tokens: int, limit: float, corpus: str) -> float:
    """How often the largest rung passes over the text. Raises `ValueError` where that is more often than `limit`."""
    most = max(each.tokens for each in rungs)
    passes = most / max(1, text_tokens)
    if passes > limit:
        raise ValueError(
            f"{corpus}: the largest rung trains on {most:,} tokens, {passes:,.1f} epochs of the {text_tokens:,} that "
            f"there are, more than {limit:g}; give more text, a smaller --top or --tokens-per-parameter, or "
            f"--max-epochs {passes:.1f} to have it so"
        )
    return passes
