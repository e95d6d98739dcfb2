"""A checkpoint is refused or right."""

from pathlib import Path

import pytest
import torch

from inhouse.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

FACTS = {"seed": 1}
FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"w": torch.full((300,), float(step))}, {"w/momentum": torch.ones(300)}, FACTS)


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, FACTS) is None
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000020", "step-00000030"]
    loaded = load_checkpoint(tmp_path, FACTS)
    assert loaded is not None
    assert loaded.step == 30
    assert torch.equal(loaded.model["w"], checkpoint(30).model["w"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_named_and_the_older_one_offered(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, checkpoint(10))
    save_checkpoint(tmp_path, checkpoint(20))
    file = tmp_path / "step-00000020" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "flip":
        file.write_bytes(content)
    elif damage == "cut":
        file.write_bytes(content[:-5])
    else:
        file.unlink()
    with pytest.raises(ValueError, match=r"step-00000020") as error:
        load_checkpoint(tmp_path, FACTS)
    assert "\n" not in str(error.value)
    assert (tmp_path / "step-00000010" / "model.safetensors").exists()


def test_a_crash_before_the_rename_leaves_the_older_one_in_force(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(10))
    (tmp_path / ".step-00000020.partial").mkdir()
    (tmp_path / ".step-00000020.partial" / "model.safetensors").write_bytes(b"half")
    loaded = load_checkpoint(tmp_path, FACTS)
    assert loaded is not None
    assert loaded.step == 10
    save_checkpoint(tmp_path, checkpoint(20))
    assert load_checkpoint(tmp_path, FACTS).step == 20  # type: ignore[union-attr]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(10))
    with pytest.raises(ValueError, match="other settings \\(seed\\)"):
        load_checkpoint(tmp_path, {"seed": 2})
