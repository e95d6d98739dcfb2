"""Checkpoints that are refused or right: a digest of every file, visible by rename, the last verified one kept."""

import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

from inhouse.common.files import digest, read_json, sync_file, sync_folder, write_json

_NAME = re.compile(r"step-(\d{8})")
_KEPT = 2


class Checkpoint(NamedTuple):
    """All that a run needs to go on as if it had never stopped."""

    step: int  # steps done
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    facts: dict[str, Any]  # what must be equal for the run to be the same one: seed, settings, shape


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder/step-N`, read it back against its manifest, and only then drop the older of two earlier ones."""
    final = folder / f"step-{checkpoint.step:08d}"
    partial = folder / f".{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, tensors in (("model", checkpoint.model), ("optimizer", checkpoint.optimizer)):
        contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        save_file(contiguous, partial / f"{name}.safetensors")
        sync_file(partial / f"{name}.safetensors")
    write_json(partial / "state.json", {"step": checkpoint.step, "facts": checkpoint.facts})
    # written last: a folder without a manifest is no checkpoint
    write_json(partial / "manifest.json", {path.name: digest(path) for path in sorted(partial.iterdir())})
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    sync_folder(folder)
    _verify(final)
    for old in _steps(folder)[:-_KEPT]:
        shutil.rmtree(old)


def load_checkpoint(folder: Path, facts: dict[str, Any]) -> Checkpoint | None:
    """The newest checkpoint, or None where there is none.

    Raises `ValueError` naming the file where one is damaged (an older checkpoint is then still there), or where the
    checkpoint is of other settings than `facts`.
    """
    steps = _steps(folder)
    if not steps:
        return None
    newest = steps[-1]
    _verify(newest)
    state = read_json(newest / "state.json")
    changed = sorted(key for key in facts.keys() | state["facts"].keys() if facts.get(key) != state["facts"].get(key))
    if changed:
        raise ValueError(
            f"{newest} was written with other settings ({', '.join(changed)}); "
            f"put them back, or delete {folder.parent} to train anew"
        )
    return Checkpoint(
        state["step"], load_file(newest / "model.safetensors"), load_file(newest / "optimizer.safetensors"), facts
    )


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)) if folder.is_dir() else []


def _verify(folder: Path) -> None:
    try:
        manifest = read_json(folder / "manifest.json")
        bad = next((name for name, expected in manifest.items() if digest(folder / name) != expected), None)
    except FileNotFoundError as error:
        bad = Path(str(error.filename)).name
    if bad is not None:
        older = [path.name for path in _steps(folder.parent) if path != folder]
        remedy = f"to go on from {older[-1]}" if older else "to start this stage anew"
        raise ValueError(f"{folder / bad} is damaged or missing (its digest differs); delete {folder} {remedy}")
