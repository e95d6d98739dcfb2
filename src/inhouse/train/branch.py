"""More tokens for a finished run: a longer one branches off where the learning rates began to fall.

Up to there all steps are those of a longer run too. `branch.json` in the stage's unfinished folder names the folder of
the finished run: {"from": path, absolute or relative to the run's folder}. What is added here makes it the record of
the branch: `step`, and `first_steps`, the steps of the run that was the first of all, which the settings in fractions
of a run refer to; or `declined`, why there is no branch.
"""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.checkpoint.manifest import read_manifest
from inhouse.checkpoint.run_identity import compare, describe
from inhouse.common.files import read_json, write_atomic, write_json
from inhouse.common.lineage import BRANCH
from inhouse.optim.schedule import steps_before_decay, warmup_steps
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import SLOW_PHASE_FACTOR
from inhouse.train.run_identity import KEYS_THAT_MAY_CHANGE, default_settings
from inhouse.train.settings import TrainSettings

_LENGTH = frozenset({"num_steps", "first_steps", "train.tokens", "train.tokens_per_parameter"})


class _Origin(NamedTuple):
    """Where a branch begins."""

    checkpoint: Path
    step: int
    first_steps: int
    identity: dict[str, Any]


def branch_off(output: Path, identity: dict[str, Any], settings: TrainSettings, mesh: Mesh) -> int:
    """The steps that settings in fractions of the run refer to: those of the first run where `output` is a branch.

    `identity` is the run's own (`run_identity`). Where `branch.json` asks for it and `output` holds no checkpoint yet,
    the old run's becomes its first; where that cannot be, one sentence says why. All processes must call it together.
    """
    own: int = identity["num_steps"]
    if not (output / BRANCH).is_file():
        return own
    folder, timeout = output / "checkpoints", timedelta(seconds=SLOW_PHASE_FACTOR * mesh.layout.timeout_seconds)
    with Checkpointer(folder, identity, timeout=timeout) as checkpointer:
        first = checkpointer.control_plane.first
        record, is_begun = first(lambda: (read_json(output / BRANCH), any(folder.glob("step-*"))))
        if is_begun:
            return int(record.get("first_steps", own))
        found = first(lambda: _find_origin(output.parent / record["from"], identity, settings))
        declined = found if isinstance(found, str) else _take_up(found, identity, output, record["from"], checkpointer)
        if not isinstance(found, str) and declined is None:
            return found.first_steps
        first(lambda: write_json(output / BRANCH, {"from": record["from"], "declined": declined}))
    if mesh.is_first:
        print(f"pretrain: no branch of the earlier run ({declined}); training from the start", file=sys.stderr)
    return own


def _take_up(
    origin: _Origin, identity: dict[str, Any], output: Path, old: str, checkpointer: Checkpointer
) -> str | None:
    """Make the old checkpoint this run's first; what is wrong with it, where it is not whole."""
    checkpointer.control_plane.first(lambda: _begin(output, old, origin))
    is_branch = {"first_steps": origin.first_steps} if origin.first_steps != identity["num_steps"] else {}
    return checkpointer.adopt(origin.checkpoint, _adopted(origin.identity, identity) | is_branch)


def _find_origin(old: Path, identity: dict[str, Any], settings: TrainSettings) -> _Origin | str:
    """The checkpoint of the run in `old` to go on from, or why there is none."""
    num_steps = identity["num_steps"]
    steps = sorted(int(path.name[5:]) for path in (old / "checkpoints").glob("step-????????"))
    if not steps:
        return f"{old} holds no checkpoint"
    try:
        theirs = read_manifest(old / "checkpoints" / f"step-{steps[0]:08d}")["facts"]
    except ValueError as error:
        return str(error)
    differences, _ = compare(theirs, identity, default_settings(settings), KEYS_THAT_MAY_CHANGE)
    if differences := [change for change in differences if change.key not in _LENGTH]:
        return f"{old} was trained with other settings: {describe(differences)}"
    if warmup_steps(theirs["num_steps"], settings) != (warmup := warmup_steps(num_steps, settings)):
        return f"{old} had a shorter warm-up, because it had few steps"
    latest = min(steps_before_decay(total, settings) for total in (theirs["num_steps"], num_steps))
    usable = [step for step in steps if warmup <= step <= latest]
    if not usable:
        return f"{old} holds no checkpoint between warm-up and decay"
    first_steps = theirs.get("first_steps", theirs["num_steps"])
    return _Origin(old / "checkpoints" / f"step-{usable[-1]:08d}", usable[-1], first_steps, theirs)


def _adopted(theirs: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    """`identity`, with those settings that may change as they were: what has changed then stands in the record."""
    before = {key.partition(".")[2] for key in KEYS_THAT_MAY_CHANGE} & theirs["train"].keys()
    return identity | {"train": identity["train"] | {name: theirs["train"][name] for name in before}}


def _begin(output: Path, old: str, origin: _Origin) -> None:
    """The record; and the log, which is this run's too up to the branch: the rest is dropped when it goes on."""
    write_json(output / BRANCH, {"from": old, "step": origin.step, "first_steps": origin.first_steps})
    log = origin.checkpoint.parents[1] / "metrics.jsonl"
    if log.is_file():
        write_atomic(output / log.name, log.read_bytes())
