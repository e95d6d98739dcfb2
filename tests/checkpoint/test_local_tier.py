"""Of two tiers the newest checkpoint is read that every process finds whole; what a run went past without is not."""

import errno
import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.processes import in_processes
from tests.tiny_models import batch_of
from tests.train.test_trainer import metrics, same_bits, trained
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from inhouse.checkpoint.checkpointer import Checkpointer, Resumed
from inhouse.checkpoint.local_tier import LocalTier
from inhouse.common.errors import Refusal
from inhouse.parallel.layout import ParallelSettings

LAYOUT = {"shard": 1}


class Attempt:
    """One start of a run in `place`, whose processes see it whole, and have a disk each below `disks`."""

    def __init__(self, place: Path, layout: dict[str, Any] = LAYOUT, disks: Path | None = None) -> None:
        rank = dist.get_rank() if dist.is_initialized() else 0
        self.disk = (disks or place / "disks") / f"machine-{rank}"
        self.shared = Checkpointer(place / "checkpoints", {"seed": 1}, layout)
        self.local = LocalTier(self.disk, self.shared)
        self.weight = torch.zeros(3, 2)
        if dist.is_initialized():
            mesh = init_device_mesh("cpu", (dist.get_world_size(),))
            self.weight = distribute_tensor(self.weight, mesh, [Shard(0)])  # uneven: one has more rows, or none
        self.said = io.StringIO()
        with redirect_stderr(self.said):
            self.resumed: Resumed | None = self.local.load(self.tensors())
        self.found = 0.0 if self.resumed is None else self._full()[-1, -1].item()

    @property
    def step(self) -> int:
        return 0 if self.resumed is None else self.resumed.step

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"w": self.weight, "count": torch.tensor(0)}

    def save(self, shared: tuple[int, ...] = (), local: tuple[int, ...] = ()) -> "Attempt":
        """In the order of steps; the weight of a step is its number."""
        for step in sorted((*shared, *local)):
            self.weight.fill_(step)
            (self.shared if step in shared else self.local).save(step, self.tensors(), {"guard": step})
        self.shared.close()
        self.local.__exit__(None, None, None)
        return self

    def parts(self) -> list[Path]:
        return sorted(self.disk.glob("*/rank-*/step-*"))

    def _full(self) -> torch.Tensor:
        return self.weight.full_tensor() if dist.is_initialized() else self.weight


def test_the_newest_of_either_tier_comes_back(tmp_path: Path) -> None:
    Attempt(tmp_path).save(shared=(10,), local=(12, 14, 16))
    second = Attempt(tmp_path)
    assert (second.step, second.found, second.resumed.extra) == (16, 16.0, {"guard": 16})
    assert [path.name for path in second.parts()] == ["step-00000014", "step-00000016"]
    third = Attempt(tmp_path)  # nothing was saved in between
    assert third.step == 16
    third.save(shared=(20,))
    assert Attempt(tmp_path).step == 20


def test_without_a_shared_one_a_local_one_will_do(tmp_path: Path) -> None:
    Attempt(tmp_path).save(local=(2,))
    assert Attempt(tmp_path).step == 2


@pytest.mark.parametrize("damage", ["torn", "flipped", "no manifest"])
def test_a_damaged_part_is_not_read(tmp_path: Path, damage: str) -> None:
    first = Attempt(tmp_path).save(shared=(10,), local=(12, 14))
    part = first.parts()[-1]
    file = part / "rank-00000.safetensors"
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "flipped":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    else:
        (part / "manifest.json").unlink()
    second = Attempt(tmp_path)
    assert (second.step, second.found) == (12, 12.0)
    assert ("is damaged" in second.said.getvalue()) == (damage != "no manifest")
    shutil.rmtree(first.parts()[-1] / "manifest.json", ignore_errors=True)
    (first.parts()[-1] / "index.json").unlink()
    assert Attempt(tmp_path).step == 10


def test_a_damaged_shared_one_gives_way_to_an_older_local_one(tmp_path: Path) -> None:
    Attempt(tmp_path).save(shared=(10, 20), local=(16,))
    (tmp_path / "checkpoints" / "step-00000020" / "index.json").unlink()
    assert Attempt(tmp_path).step == 16
    assert not (tmp_path / "checkpoints" / "step-00000020").exists()  # set aside: it is not of the past


def test_another_layout_goes_on_from_the_shared_one(tmp_path: Path) -> None:
    first = Attempt(tmp_path).save(shared=(10,), local=(12,))
    assert Attempt(tmp_path, {"shard": 2}).step == 10
    assert first.parts() == []
    assert Attempt(tmp_path).step == 10


def test_what_the_run_went_past_on_other_machines_is_not_read(tmp_path: Path) -> None:
    Attempt(tmp_path).save(shared=(10,), local=(18,))
    Attempt(tmp_path, disks=tmp_path / "others").save(local=(12,))
    assert Attempt(tmp_path).step == 10


def test_a_run_that_was_deleted_is_no_past_of_the_next(tmp_path: Path) -> None:
    Attempt(tmp_path).save(shared=(10,), local=(18,))
    shutil.rmtree(tmp_path / "checkpoints")
    assert Attempt(tmp_path).resumed is None


def test_a_disk_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disks").write_text("a file")
    with pytest.raises(Refusal, match="checkpoints cannot be written there"):
        Attempt(tmp_path)


def test_a_layout_that_waits_longer_or_computes_again_is_the_same(tmp_path: Path) -> None:
    layout = ParallelSettings(shard=2)
    Attempt(tmp_path, layout.model_dump()).save(shared=(10,), local=(12,))
    patient = layout.model_copy(update={"timeout_seconds": 900, "recompute": "selective"})
    assert Attempt(tmp_path, patient.model_dump()).step == 12


def fails(attempt: Attempt, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "vanished":
        shutil.rmtree(attempt.disk)
    else:
        full = OSError(errno.ENOSPC, "No space left on device", "a file")
        monkeypatch.setattr("inhouse.checkpoint.sharded_save.write_rank_file", raising(full))


def raising(error: OSError) -> Callable[..., None]:
    def write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        path.write_bytes(b"half")
        raise error

    return write


@pytest.mark.parametrize("fault", ["full", "vanished"])
def test_a_disk_that_fails_later_ends_no_run(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt, said = Attempt(tmp_path).save(shared=(10,), local=(12,)), io.StringIO()
    with redirect_stderr(said), monkeypatch.context() as patch:
        fails(attempt, fault, patch)
        attempt.save(local=(14, 16))
        attempt.local.leave_behind(10)
    assert said.getvalue().count("rank 0 goes on without local checkpoints: ") == 1
    assert attempt.parts() == []
    attempt.save(shared=(20,))
    attempt.local.discard()
    found = Attempt(tmp_path)
    assert found.step == 20
    assert found.save(local=(22,)).parts() != []


def test_what_a_run_went_back_behind_is_not_read_though_it_still_lies_there(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path).save(shared=(10,), local=(12,))
    kept = tmp_path / "kept"
    shutil.copytree(attempt.disk, kept)
    attempt.local.leave_behind(10)
    shutil.rmtree(attempt.disk)
    kept.rename(attempt.disk)
    assert Attempt(tmp_path).step == 10


def lose_a_part(place: Path) -> list[tuple[int, float]]:
    """Four restarts: all there; a part of the newest torn on one machine; one machine lost; and after that."""
    found, rank = [], dist.get_rank()
    Attempt(place).save(shared=(10,), local=(12, 14))
    for fault in (None, "torn", "lost", None):
        attempt = Attempt(place)
        found.append((attempt.step, attempt.found))
        attempt.save()
        dist.barrier()
        if fault == "torn" and rank == 1:
            (attempt.parts()[-1] / "rank-00000.safetensors").write_bytes(b"torn")
        elif fault == "lost" and rank == 1:
            shutil.rmtree(attempt.disk)
        dist.barrier()
    return found


def test_all_processes_read_the_same_and_a_lost_machine_takes_all_to_the_shared_one(tmp_path: Path) -> None:
    expected = [(14, 14.0), (14, 14.0), (12, 12.0), (10, 10.0)]
    assert in_processes(2, lose_a_part, tmp_path) == [expected] * 2


def test_a_run_that_goes_on_from_its_disk_ends_in_the_same_bits(tmp_path: Path) -> None:
    def stopping(step: int):
        if step == 7:
            raise KeyboardInterrupt
        return batch_of(step)

    tier = {"local_checkpoints": str(tmp_path / "disk"), "local_every": 3}
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", source=stopping, **tier)
    said = io.StringIO()
    with redirect_stderr(said):
        weights = trained(tmp_path / "run", **tier)
    assert "going on from step 6 of 12" in said.getvalue()
    assert same_bits(weights, trained(tmp_path / "whole"))
    assert [line["step"] for line in metrics(tmp_path / "run")] == list(range(1, 13))
    assert list((tmp_path / "disk").glob("*/rank-*")) == []
