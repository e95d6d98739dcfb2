"""A checkpoint is refused or right: one process, no process group."""

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from inhouse.checkpoint import checkpointer as module
from inhouse.checkpoint.checkpointer import Checkpointer, Resumed
from inhouse.common.errors import Refusal

FACTS = {"seed": 1, "betas": [0.8, 0.96]}
FILES = ["manifest.json", "index.json", "rank-00000.safetensors"]


def tensors(step: int) -> dict[str, torch.Tensor]:
    return {
        "model.w": torch.full((300, 2), float(step)),
        "model.bias": torch.full((3,), float("nan"), dtype=torch.bfloat16),
        "optimizer.muon.step": torch.tensor(step),
    }


def saved(folder: Path, *steps: int, facts: dict = FACTS) -> None:
    with Checkpointer(folder, facts) as checkpoints:
        for step in steps:
            checkpoints.save(step, tensors(step), {"skipped": [step, 0.5]})


def loaded(folder: Path, at_most: int | None = None) -> tuple[Resumed | None, dict[str, torch.Tensor]]:
    into = tensors(0)
    with Checkpointer(folder, FACTS) as checkpoints:
        return checkpoints.load(into, at_most), into


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".writer-"))


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    assert loaded(tmp_path)[0] is None
    saved(tmp_path, 10, 20, 30)
    assert visible(tmp_path) == ["step-00000020", "step-00000030"]
    assert sorted(path.name for path in (tmp_path / "step-00000030").iterdir()) == sorted(FILES)
    resumed, into = loaded(tmp_path)
    assert resumed == Resumed(30, {"skipped": [30, 0.5]}, {})
    for name, tensor in tensors(30).items():
        assert torch.equal(into[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name


def test_a_loaded_tensor_keeps_its_memory_and_gradient_flag(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    weight = torch.nn.Parameter(torch.zeros(300, 2))
    into = tensors(0) | {"model.w": weight}
    with Checkpointer(tmp_path, FACTS) as checkpoints:
        checkpoints.load(into)
    assert weight.requires_grad
    assert weight[0, 0].item() == 10.0


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_damage_is_named_and_the_older_one_taken(tmp_path: Path, capfd, name: str, damage: str) -> None:
    saved(tmp_path, 10, 20)
    file = tmp_path / "step-00000020" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes({"flip": content, "cut": file.read_bytes()[:-5], "grow": file.read_bytes() + b" "}[damage])
    resumed, into = loaded(tmp_path)
    if damage == "grow" and name == "manifest.json":  # a blank after its end means nothing
        assert resumed.step == 20
        return
    assert resumed.step == 10
    assert into["model.w"][0, 0] == 10
    said = capfd.readouterr().err
    assert str(file) in said
    assert said.count("\n") == 1
    assert visible(tmp_path) == ["aside-step-00000020", "step-00000010"]
    saved(tmp_path, 20)
    assert loaded(tmp_path)[0].step == 20


def test_every_bit_of_a_manifest_counts(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    file = tmp_path / "step-00000010" / "manifest.json"
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="no older checkpoint is whole"):
            loaded(tmp_path)


def test_where_none_is_whole_the_run_does_not_start(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    for step in (10, 20):
        (tmp_path / f"step-000000{step}" / "index.json").unlink()
    with pytest.raises(ValueError, match=r"step-00000010/index\.json is missing; no older") as error:
        loaded(tmp_path)
    assert "\n" not in str(error.value)


def test_files_of_another_step_are_refused(tmp_path: Path, capfd) -> None:
    saved(tmp_path, 10, 20)
    old, new = tmp_path / "step-00000010", tmp_path / "step-00000020"
    shard = (new / "rank-00000.safetensors").read_bytes()
    (new / "rank-00000.safetensors").write_bytes((old / "rank-00000.safetensors").read_bytes())
    assert loaded(tmp_path)[0].step == 10
    assert "rank-00000.safetensors is damaged" in capfd.readouterr().err
    saved(tmp_path, 20)
    (new / "rank-00000.safetensors").write_bytes(shard + b"more")
    assert loaded(tmp_path)[0].step == 10
    assert "bytes, its manifest says" in capfd.readouterr().err


def test_a_checkpoint_under_another_steps_name_is_refused(tmp_path: Path, capfd) -> None:
    saved(tmp_path, 10, 20)
    (tmp_path / "step-00000020").rename(tmp_path / "step-00000030")
    assert loaded(tmp_path)[0].step == 10
    assert "step-00000030/manifest.json is of step 20" in capfd.readouterr().err


def test_a_file_that_is_not_in_the_manifest_is_refused(tmp_path: Path, capfd) -> None:
    saved(tmp_path, 10, 20)
    (tmp_path / "step-00000020" / "rank-00001.safetensors").write_bytes(b"")
    assert loaded(tmp_path)[0].step == 10
    assert "rank-00001.safetensors does not belong there" in capfd.readouterr().err


def test_the_last_two_that_were_due_are_kept_beside_the_last_two(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, FACTS, every=10) as checkpoints:
        for step in (10, 20, 30, 31, 32, 33):
            checkpoints.save(step, tensors(step))
    assert visible(tmp_path) == [f"step-000000{step}" for step in (20, 30, 32, 33)]


@pytest.mark.parametrize(("pinned", "kept"), [(12, 12), (14, 12), (20, 20), (5, None), (0, None)])
def test_the_last_at_or_before_a_step_is_kept_for_good(tmp_path: Path, pinned: int, kept: int | None) -> None:
    """Also by the next process, and beside what is kept anyhow."""
    for steps in ((6, 12, 20), (25, 31), (33, 34, 35)):
        with Checkpointer(tmp_path, FACTS, every=100, pinned=pinned) as checkpoints:
            for step in steps:
                checkpoints.save(step, tensors(step))
    assert visible(tmp_path) == [f"step-000000{step:02}" for step in (kept, 34, 35) if step]


def test_the_last_due_one_of_every_so_many_steps_is_kept_for_good(tmp_path: Path) -> None:
    """Also by the next process, and whether or not a stop has saved in between."""
    for steps in ((10, 20, 30, 40), (43, 50, 60), (70, 80, 90, 100, 101)):
        with Checkpointer(tmp_path, FACTS, every=10, keep_every=40) as checkpoints:
            for step in steps:
                checkpoints.save(step, tensors(step))
    assert visible(tmp_path) == [f"step-{step:08}" for step in (40, 80, 90, 100, 101)]
    (tmp_path / "uneven").mkdir()
    with Checkpointer(tmp_path / "uneven", FACTS, every=10, keep_every=25) as checkpoints:
        for step in range(10, 100, 10):
            checkpoints.save(step, tensors(step))
    assert visible(tmp_path / "uneven") == [f"step-{step:08}" for step in (20, 50, 70, 80, 90)]


def test_what_is_kept_for_good_stays_when_others_are_due(tmp_path: Path) -> None:
    """`checkpoint_every` may change on the way."""
    for every, steps in ((20, range(20, 260, 20)), (30, range(270, 330, 30))):
        with Checkpointer(tmp_path, FACTS, every=every, keep_every=100) as checkpoints:
            for step in steps:
                checkpoints.save(step, tensors(step))
    assert visible(tmp_path) == [f"step-{step:08}" for step in (100, 200, 270, 300)]


@pytest.mark.parametrize("call", ["rmtree", "rename"])
def test_an_old_one_that_cannot_be_removed_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    """As on a network disk, where somebody reads it."""
    rename = Path.rename

    def busy(path: Path, target: Path) -> Path:
        if target.name.endswith(".old"):
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        return rename(path, target)

    if call == "rename":
        monkeypatch.setattr(Path, "rename", busy)
    else:
        monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: ignore_errors or path.rmdir())
    saved(tmp_path, 10, 20, 30)
    stays = call == "rename"
    shown = [name for name in visible(tmp_path) if not name.startswith(".")]
    assert shown == [f"step-{step:08}" for step in (10, 20, 30)[not stays :]]
    assert ("step-00000010 stays: it cannot be removed (Device or resource busy)" in capsys.readouterr().err) == stays
    assert loaded(tmp_path)[0].step == 30


def test_a_checkpoint_of_another_run_can_be_adopted(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    saved(old, 10, 20)
    ours = FACTS | {"seed": 2}
    with Checkpointer(new, ours) as checkpoints:
        assert checkpoints.adopt(old / "step-00000010", ours) is None
    into = tensors(0)
    with Checkpointer(new, ours) as checkpoints:
        assert checkpoints.load(into) == Resumed(10, {"skipped": [10, 0.5]}, {})
        assert into["model.w"][0, 0] == 10
        for step in (30, 40):
            checkpoints.save(step, tensors(step))
    assert visible(new) == ["step-00000030", "step-00000040"]
    assert loaded(old, at_most=10)[0].step == 10  # nothing of it went with the copy
    (old / "step-00000010" / "index.json").unlink()
    with Checkpointer(new, ours) as checkpoints:
        assert "index.json is missing" in checkpoints.adopt(old / "step-00000010", ours)
    assert visible(new) == ["step-00000030", "step-00000040"]


def test_what_may_change_is_told_and_nothing_else(tmp_path: Path) -> None:
    old = {"seed": 1, "train": {"lr": 1, "every": [1, 2], "gone": True, "here": None}}
    new = {"seed": 1, "train": {"lr": 1, "every": [1, 3], "here": 5, "young": 7}}
    allowed = {"train.every", "train.gone", "train.here", "train.young"}
    saved(tmp_path, 10, facts=old)
    with Checkpointer(tmp_path, new, may_change=allowed) as checkpoints:
        resumed = checkpoints.load(tensors(0))
    assert resumed.changed == (("train.every", [1, 2], [1, 3]), ("train.gone", True, None), ("train.here", None, 5))
    for fewer in allowed - {"train.young"}:
        with (
            pytest.raises(Refusal, match=rf"other settings \({fewer} = "),
            Checkpointer(tmp_path, new, may_change=allowed - {fewer}) as checkpoints,
        ):
            checkpoints.load(tensors(0))


def test_a_run_can_go_back(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    assert loaded(tmp_path, at_most=19)[0].step == 10
    assert loaded(tmp_path)[0].step == 10  # the later one is out of force for good
    saved(tmp_path, 15)
    assert visible(tmp_path) == ["aside-step-00000020", "step-00000010", "step-00000015"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    with (
        pytest.raises(ValueError, match=r"other settings \(seed = 2, there 1\)"),
        Checkpointer(tmp_path, FACTS | {"seed": 2}) as checkpoints,
    ):
        checkpoints.load(tensors(0))


@pytest.mark.parametrize("other", [{"model.w": torch.zeros(300, 3)}, {"model.more": torch.zeros(1)}])
def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, other: dict[str, torch.Tensor]) -> None:
    saved(tmp_path, 10)
    with (
        pytest.raises(ValueError, match=f"is of another model: 1 of . tensors differ, first {next(iter(other))}"),
        Checkpointer(tmp_path, FACTS) as checkpoints,
    ):
        checkpoints.load(tensors(0) | other)


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    folder = tmp_path / "step-00000010"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    for path in folder.glob("*.json"):
        json.loads(path.read_text())
    assert (folder / "rank-00000.safetensors").read_bytes()[8:9] == b"{"  # the header is JSON, the rest numbers


def slow_saves(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Saves hang in their thread until the event is set."""
    go, write = threading.Event(), module.write_manifest

    def waiting(*arguments: object) -> None:
        assert go.wait(20)
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_manifest", waiting)
    return go


def test_a_save_holds_the_state_of_its_call_and_the_next_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = slow_saves(monkeypatch)
    state = tensors(10)
    with Checkpointer(tmp_path, FACTS) as checkpoints:
        checkpoints.save(10, state)
        state["model.w"].fill_(99)  # training goes on
        assert visible(tmp_path)[-1:] != ["step-00000010"]
        threading.Timer(0.2, go.set).start()
        checkpoints.save(20, state)  # due while one runs
        assert "step-00000010" in visible(tmp_path)
    assert visible(tmp_path) == ["step-00000010", "step-00000020"]  # at exit nothing is left half written
    assert loaded(tmp_path)[1]["model.w"][0, 0] == 99
    assert loaded(tmp_path, at_most=10)[1]["model.w"][0, 0] == 10


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(module, "write_manifest", fail)


ERRORS = [OSError(28, "No space left on device", "x"), OSError(5, "Input/output error", "x"), RuntimeError("a\nb")]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", ["save", "exit"])
def test_a_failed_save_surfaces_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, at: str
) -> None:
    saved(tmp_path, 10)
    checkpoints = Checkpointer(tmp_path, FACTS)
    with monkeypatch.context() as patch:
        failing(patch, error)
        checkpoints.save(20, tensors(20))
        with pytest.raises(ValueError, match=r"the last (one|checkpoint) is kept") as raised:
            checkpoints.save(30, tensors(30)) if at == "save" else checkpoints.close()
    assert "\n" not in str(raised.value)
    assert str(error).splitlines()[0] in str(raised.value) or error.strerror in str(raised.value)
    assert loaded(tmp_path)[0].step == 10
    assert visible(tmp_path) == ["step-00000010"]  # what was half written went with the next start


def test_what_stopped_a_run_is_not_hidden_by_a_failed_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    failing(monkeypatch, ERRORS[0])
    with pytest.raises(KeyboardInterrupt), Checkpointer(tmp_path, FACTS) as checkpoints:
        checkpoints.save(10, tensors(10))
        raise KeyboardInterrupt
    assert "No space left on device" in capfd.readouterr().err


@pytest.mark.parametrize("where", ["begin", "publish"])
def test_a_writer_that_was_replaced_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    zombie = Checkpointer(tmp_path, FACTS)
    zombie.save(10, tensors(10))
    zombie.wait()
    if where == "begin":
        saved(tmp_path, 20)
        zombie.save(30, tensors(30))
    else:
        go = slow_saves(monkeypatch)
        zombie.save(30, tensors(30))
        successor = Checkpointer(tmp_path, FACTS)
        go.set()
        successor.save(20, tensors(20))
        successor.close()
    with pytest.raises(ValueError, match=f"process {os.getpid()} on .* has taken over|cannot write"):
        zombie.close()
    assert loaded(tmp_path)[0].step == 20


@pytest.mark.parametrize("number", [13, 30])
def test_a_folder_that_cannot_be_written_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=f"cannot be written there \\({os.strerror(number)}\\)"):
        Checkpointer(tmp_path / "checkpoints", FACTS)


def test_tensors_that_share_memory_and_transposed_ones_come_back(tmp_path: Path) -> None:
    """A head that is tied to the embedding is one tensor under two names."""
    tied = torch.arange(12.0).view(3, 4)
    given = {"embedding": tied, "head": tied, "transposed": torch.arange(6.0).view(2, 3).T}
    with Checkpointer(tmp_path, FACTS) as checkpointer:
        checkpointer.save(1, given)
    found = {name: torch.zeros_like(tensor) for name, tensor in given.items()}
    with Checkpointer(tmp_path, FACTS) as checkpointer:
        checkpointer.load(found)
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
