"""More tokens for a pretraining that exists: it goes on from its last checkpoint before the decay, as a branch."""

from pathlib import Path

from inhouse.common.lineage import read_record
from inhouse.pipeline.changes import changes_of
from inhouse.pipeline.identity import identify
from inhouse.pipeline.replace import read_partial
from inhouse.pipeline.stages import Stage, partial_folder
from inhouse.train.step_count import plan_steps

_LENGTH = ("pretrain.tokens", "pretrain.tokens_per_parameter")


def branch_from(stage: Stage, run: Path) -> Path | None:
    """The folder of an earlier, shorter pretraining that `stage` differs from in nothing but its length, or None."""
    if stage.name != "pretrain" or stage.ranks_of is None:
        return None
    for folder in (run / stage.name, partial_folder(run, stage.name)):
        record = read_record(folder) or read_partial(folder)
        if not record:
            continue
        changes = changes_of(stage, record, identify(stage, run, record))
        if changes and all(change.key in _LENGTH for change in changes) and _is_longer(stage, folder, record):
            return folder
    return None
