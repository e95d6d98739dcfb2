"""How often a recipe's pretraining passes over its text."""

from pathlib import Path
from typing import NamedTuple

from inhouse.checkpoint.shape import resolve_shape
from inhouse.data.text_size import ESTIMATE, counted_tokens, estimated_tokens
from inhouse.model.sizes import Derived
from inhouse.recipe.recipe import Recipe
from inhouse.train.step_count import plan_steps, pretrains


class Passes(NamedTuple):
    """Tokens of text to train on, how they are known, and how often pretraining sees each."""

    text_tokens: int
    rule: str
    passes: float

    def numbers(self) -> list[Derived]:
        """As rows of the dry run."""
        return [
            Derived("tokens of text", self.text_tokens, self.rule),
            Derived("passes over the text", round(self.passes, 2), "tokens / tokens of text"),
        ]


def passes_over_text(recipe: Recipe, run: Path, is_made: bool) -> Passes:
    """Counted in `run` where its shards are made of this text by this tokenizer, else estimated from files' sizes.

    Raises `ValueError` where a source is not there.
    """
    tokens = counted_tokens(run / "tokenizer") if is_made else None
    rule = f"counted in {run / 'tokenizer'}"
    if tokens is None:
        tokens = estimated_tokens(recipe.data.sources, recipe.tokenizer.vocab_size, recipe.data.holdout_one_in)
        rule = ESTIMATE
    steps = 0
    if pretrains(recipe.pretrain, recipe.model):
        config, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
        steps, _ = plan_steps(recipe.pretrain, config, recipe.parallel)
    return Passes(tokens, rule, steps * recipe.pretrain.batch_tokens / max(1, tokens))
