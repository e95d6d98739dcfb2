"""A process that dies at any point of a save leaves a checkpoint that is whole, and the next run goes on from it."""

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoint.test_checkpointer import FACTS, loaded, saved, tensors, visible
from tests.processes import exit_code

from inhouse.checkpoint import checkpointer, dcp_safetensors, manifest
from inhouse.checkpoint.checkpointer import Checkpointer


def before(module: Any, name: str, act: Callable[..., None]) -> None:
    """Let `act` see the arguments of every call of `module.name`, before it is carried out."""
    original = getattr(module, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        act(*arguments, **options)
        return original(*arguments, **options)

    setattr(module, name, wrapped)


def die(*arguments: Any, **options: Any) -> None:
    os._exit(9)


def die_after(num_bytes: int) -> Callable[..., None]:
    """From the call on, the system kills the process as it writes this byte of a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    return lambda *arguments, **options: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


WRITERS = {
    "shard": (dcp_safetensors, "save_file"),
    "index": (checkpointer, "write_json"),
    "manifest": (manifest, "write_json"),
}


def crash_in_file(folder: Path, kind: str, num_bytes: int) -> None:
    before(*WRITERS[kind], die_after(num_bytes))
    saved(folder, 20)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("num_bytes", [0, 100, 500])
def test_after_some_bytes_of_a_file(tmp_path: Path, kind: str, num_bytes: int) -> None:
    saved(tmp_path, 10)
    assert exit_code(crash_in_file, tmp_path, kind, num_bytes) == -signal.SIGXFSZ
    goes_on_from(tmp_path, 10)


POINTS = {
    "before the index": (checkpointer, "write_json"),
    "after the shards, before the manifest": (checkpointer, "write_manifest"),
    "after the manifest, before the rename": (Checkpointer, "_publish"),
    "after the rename, before an old one is removed": (checkpointer, "_remove"),
    "while an old one is removed": (shutil, "rmtree"),
}


def crash_at(folder: Path, point: str) -> None:
    with Checkpointer(folder, FACTS) as checkpoints:
        before(*POINTS[point], die)
        checkpoints.save(30, tensors(30))


@pytest.mark.parametrize("point", POINTS)
def test_between_files(tmp_path: Path, point: str) -> None:
    saved(tmp_path, 10, 20)
    assert exit_code(crash_at, tmp_path, point) == 9
    goes_on_from(tmp_path, 30 if "old one" in point else 20)


def crash_while_loading(folder: Path) -> None:
    before(dcp_safetensors.SafetensorsReader, "read_data", die)
    loaded(folder)


def test_while_loading(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    assert exit_code(crash_while_loading, tmp_path) == 9
    goes_on_from(tmp_path, 10)


def goes_on_from(folder: Path, step: int) -> None:
    resumed, into = loaded(folder)
    assert resumed.step == step
    assert into["model.w"][0, 0] == step
    saved(folder, 40, 50)
    assert visible(folder) == ["step-00000040", "step-00000050"]
    assert loaded(folder)[0].step == 50
