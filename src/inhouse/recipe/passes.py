"""How often a recipe's pretraining passes over its text."""

from pathlib import Path
from typing import Any, NamedTuple

from inhouse.checkpoint.shape import resolve_shape
from inhouse.common.lineage import read_record
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


def passes_over_text(recipe: Recipe, run: Path) -> Passes:
    """Counted where `run` holds shards of this text and this tokenizer, else estimated from the sizes of the files.

    Raises `ValueError` where a source is not there.
    """
    tokens, rule = counted_tokens(run / "tokenizer"), f"counted in {run / 'tokenizer'}"
    if tokens is None or not _is_made_so(recipe, run):
        tokens = estimated_tokens(recipe.data.sources, recipe.tokenizer.vocab_size, recipe.data.holdout_one_in)
        rule = ESTIMATE
    steps = 0
    if pretrains(recipe.pretrain, recipe.model):
        config, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
        steps, _ = plan_steps(recipe.pretrain, config, recipe.parallel)
    return Passes(tokens, rule, steps * recipe.pretrain.batch_tokens / max(1, tokens))


def _is_made_so(recipe: Recipe, run: Path) -> bool:
    """Whether the stages that hold the text have the recipe's settings, as far as their records know them."""
    for name in ("data", "tokenizer"):
        record = read_record(run / name)
        wanted = getattr(recipe, name).model_dump(mode="json")
        if record is None or not _agree(record["settings"].get(name), wanted):
            return False
    return True


def _agree(recorded: Any, wanted: Any) -> bool:
    if isinstance(recorded, dict) and isinstance(wanted, dict):
        return all(_agree(recorded[key], wanted[key]) for key in recorded.keys() & wanted.keys())
    if isinstance(recorded, list) and isinstance(wanted, list) and len(recorded) == len(wanted):
        return all(map(_agree, recorded, wanted))
    return bool(recorded == wanted)
