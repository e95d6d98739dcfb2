"""More tokens for a pretraining that exists: it goes on from its last checkpoint before the decay, as a branch."""

from pathlib import Path

from inhouse.checkpoint.shape import resolve_shape
from inhouse.common.lineage import Record
from inhouse.optim.schedule import steps_before_decay, warmup_steps
from inhouse.pipeline.aside import kept_aside
from inhouse.pipeline.changes import changes_of
from inhouse.pipeline.identity import Identity
from inhouse.pipeline.replace import read_partial
from inhouse.pipeline.stages import Stage, partial_folder
from inhouse.recipe.recipe import Recipe
from inhouse.train.step_count import plan_steps

_LENGTH = ("pretrain.tokens", "pretrain.tokens_per_parameter")


def branch_from(stage: Stage, run: Path, identity: Identity) -> Path | None:
    """The folder of an earlier, shorter pretraining that `stage` differs from in nothing but its length, or None."""
    if stage.name != "pretrain" or stage.ranks_of is None:
        return None
    for folder in (run / stage.name, partial_folder(run, stage.name), *kept_aside(run, stage.name)):
        record = read_partial(folder)
        keys = {change.key for change in changes_of(stage, record, identity)} if record else set()
        if record and keys and keys <= set(_LENGTH) and _holds_branch_point(folder, record, stage.ranks_of):
            return folder
    return None


def _holds_branch_point(folder: Path, record: Record, recipe: Recipe) -> bool:
    """Whether it is of a shorter run, and has a checkpoint whose steps are a longer run's too."""
    config, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
    length = {key.partition(".")[2]: record["settings"]["pretrain"].get(key.partition(".")[2]) for key in _LENGTH}
    old, _ = plan_steps(recipe.pretrain.model_copy(update=length), config, recipe.parallel)
    new, _ = plan_steps(recipe.pretrain, config, recipe.parallel)
    saved = (int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").glob("step-????????"))
    warmup = warmup_steps(new, recipe.pretrain)
    is_same = warmup == warmup_steps(old, recipe.pretrain)  # a short run's is shorter: its rates rose faster
    return old < new and is_same and any(warmup <= step <= steps_before_decay(old, recipe.pretrain) for step in saved)
