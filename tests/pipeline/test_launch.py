"""`inhouse make` starts the processes that a recipe asks for, or joins those that torchrun started."""

import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from tests.test_end_to_end import SHRUNK

from inhouse.common import processes
from inhouse.common.files import digest, read_json
from inhouse.common.processes import FOLDER
from inhouse.parallel import process_group
from inhouse.pipeline import launch
from inhouse.pipeline.runner import make
from inhouse.pipeline.stages import Stage
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import Recipe, load_recipe

ALONE_FIRST = [*SHRUNK, "data.processes=1", "tokenizer.processes=1"]  # what comes before the stage that is shared
SHARED = ("parallel.shard=2", "pretrain.tokens=8192", "pretrain.checkpoint_every=2", "pretrain.log_every=1")


def recipe(text: Path, *overrides: str) -> Recipe:
    return load_recipe(find_recipe("preview-moe"), [*ALONE_FIRST, f"data.sources.0.path={text}", *overrides])


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("[a-c]*.py"))[:30]:
        (folder / path.name).write_text(path.read_text(encoding="utf-8")[:6_000], encoding="utf-8")
    return folder


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> torch.distributed.Store:
    """Where the processes meet that torchrun would have started, two of them."""
    shared = torch.distributed.HashStore()
    shared.set_timeout(timedelta(seconds=1))  # what nobody says must not be waited for
    monkeypatch.setattr(process_group, "meeting_place", lambda: shared)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv(FOLDER, raising=False)
    return shared


def test_the_first_process_tells_the_others_what_comes_and_lets_them_go(
    text: Path, tmp_path: Path, store: torch.distributed.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    shared, written = recipe(text, "parallel.shard=2"), []
    with pytest.raises(RuntimeError, match="broken"), launch.leading(shared, tmp_path) as is_leader:
        assert is_leader
        launch.carry_out(Stage("data", {}, (), written.append), tmp_path, tmp_path / "1")
        launch.carry_out(Stage("pretrain", {}, (), written.append, ranks_of=shared), tmp_path, tmp_path / "2")
        raise RuntimeError("broken")
    assert written == [tmp_path / "1", tmp_path / "2"]
    assert [store.get(f"stage/{number}") for number in range(2)] == [b"pretrain", b"end"]


def test_the_others_write_what_they_are_told_where_the_first_does(
    text: Path, tmp_path: Path, store: torch.distributed.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    written: list[Path] = []
    monkeypatch.setattr(launch, "stages_of", lambda *_: [Stage("pretrain", {}, (), written.append)])
    for number, name in enumerate(("pretrain", "pretrain", "end")):
        store.set(f"stage/{number}", name)
    assert make(recipe(text, "parallel.shard=2"), tmp_path) is None
    assert written == [tmp_path / "preview-moe" / ".pretrain.partial"] * 2
    assert list(tmp_path.iterdir()) == []


def losses(path: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in path.read_text().splitlines()]


def test_two_processes_train_the_model_of_one(text: Path, tmp_path: Path) -> None:
    fp32 = ("pretrain.precision=fp32", "pretrain.tokens=4096", "pretrain.log_every=1")
    alone = make(recipe(text, *fp32), tmp_path / "alone", until="pretrain")
    shared = make(recipe(text, *fp32, "parallel.shard=2", "parallel.experts=2"), tmp_path / "shared", until="pretrain")
    expected, found = (losses(run / "pretrain" / "metrics.jsonl") for run in (alone, shared))
    assert found == pytest.approx(expected, rel=1e-4)
    assert {path.name for path in (shared / "pretrain").iterdir()} >= {"model.safetensors", "config.json"}
    assert read_json(shared / "pretrain" / "config.json") == read_json(alone / "pretrain" / "config.json")


@pytest.fixture(scope="module")
def unbroken(text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the weights that two processes end with, where none is lost."""
    run = make(recipe(text, *SHARED), tmp_path_factory.mktemp("unbroken"), until="pretrain")
    return digest(run / "pretrain" / "model.safetensors")


def test_processes_that_one_was_lost_of_are_started_again(
    text: Path, unbroken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started: list[subprocess.Popen[str]] = []
    start = processes._start
    monkeypatch.setattr(processes, "_start", lambda *arguments: started.append(start(*arguments)) or started[-1])

    def kill_one() -> None:
        checkpoints = tmp_path / "killed" / "preview-moe" / ".pretrain.partial" / "checkpoints"
        while not list(checkpoints.glob("step-*")):
            time.sleep(0.01)
        started[1].kill()

    threading.Thread(target=kill_one, daemon=True).start()
    killed = make(recipe(text, *SHARED), tmp_path / "killed", until="pretrain")
    assert len(started) == 4
    assert "process 1 of 2 was killed by SIGKILL; starting its processes again" in capfd.readouterr().err
    assert digest(killed / "pretrain" / "model.safetensors") == unbroken


def test_torchrun_joins_starts_again_and_ends_in_the_same_bits(text: Path, unbroken: str, tmp_path: Path) -> None:
    overrides = [*ALONE_FIRST, f"data.sources.0.path={text}", *SHARED]
    script = tmp_path / "struck.py"
    script.write_text(f"""
import os, signal, threading, time
from datetime import timedelta
from pathlib import Path
from inhouse.cli.app import main
def strike():
    while not list(Path({str(tmp_path / "runs")!r}).glob("preview-moe/.pretrain.partial/checkpoints/step-*")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    threading.Thread(target=strike, daemon=True).start()
main()
""")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1",
        str(script), "make", "preview-moe", "--until", "pretrain", "--runs", str(tmp_path / "runs"),
        *(word for text in overrides for word in ("--set", text)),
    ]  # fmt: skip
    done = subprocess.run(
        command, timeout=600, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stderr
    assert digest(tmp_path / "runs" / "preview-moe" / "pretrain" / "model.safetensors") == unbroken


def test_another_number_of_processes_than_asked_for_is_refused(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv(FOLDER, raising=False)
    with pytest.raises(ValueError, match="= 2 processes, but 3 were started: start 2, or set shard = 3"):
        make(recipe(text, "parallel.shard=2"), text)


def test_a_recipe_that_cannot_be_shared_is_refused_with_its_line(text: Path) -> None:
    with pytest.raises(ValueError, match=r"--set parallel.shard=3: \[parallel\] .*cannot be dealt"):
        recipe(text, "parallel.shard=3")
