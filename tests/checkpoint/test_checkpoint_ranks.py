"""Checkpoints of several processes: any number reads what any other number wrote, and one's failure is all's."""

import io
import os
import resource
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import in_processes
from tests.tiny_models import tiny_model
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from inhouse.checkpoint import dcp_safetensors
from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.common.dtensor import full_tensor
from inhouse.optim.optimizer import Optimizers
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.settings import TrainSettings

# 4 → 2 → 4 → 3 → 1 → 2 → 4 processes, FSDP, experts, context and a pipeline mixed
LAYOUTS = [
    ParallelSettings(shard=4, experts=2),
    ParallelSettings(context=2),
    ParallelSettings(pipeline=2, shard=2, experts=2),
    ParallelSettings(shard=3),
    ParallelSettings(),
    ParallelSettings(pipeline=2),
    ParallelSettings(replicate=2, shard=2, experts=2),
]


def state_of(layout: ParallelSettings) -> dict[str, Tensor]:
    """A sharded model with experts and its optimizers' state."""
    model = tiny_model("glm4_moe", seed=layout.processes)
    mesh = Mesh(layout) if layout.processes > 1 else SINGLE
    parallelize(model, mesh)
    optimizers = Optimizers(model, TrainSettings())
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    return state | {f"optimizer.{name}": tensor for name, tensor in optimizers.state().items()}


@torch.no_grad()
def change(state: dict[str, Tensor], step: int) -> None:
    """What training would do, the same whatever the sharding."""
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor.mul_(1.25).add_(step)
        else:
            tensor.fill_(step)


def bits(state: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: full_tensor(tensor).detach().numpy().tobytes() for name, tensor in state.items()}


def take_over(folder: Path, layout: ParallelSettings, step: int) -> tuple[Any, dict[str, bytes], dict[str, bytes]]:
    """Load what is there, change it, save it: what was resumed, the bits after loading, the bits saved."""
    state = state_of(layout)
    with Checkpointer(folder, {"seed": 1}, layout.model_dump()) as checkpoints:
        resumed = checkpoints.load(state)
        found = bits(state)
        change(state, step)
        saved = bits(state)
        checkpoints.save(step, state)
        with torch.no_grad():
            for tensor in state.values():
                tensor.zero_()  # the checkpoint is of the state when it was saved
    return resumed, found, saved


def test_other_numbers_of_processes_go_on_from_the_same_bits(tmp_path: Path) -> None:
    before: dict[str, bytes] | None = None
    for step, layout in enumerate(LAYOUTS):
        run = in_processes if layout.processes > 1 else lambda _, function, *arguments: [function(*arguments)]
        results = run(layout.processes, take_over, tmp_path, layout, step)
        whole = {name: part for _, _, saved in results for name, part in saved.items()}
        for resumed, found, saved in results:
            if before is None:
                assert resumed is None
            else:
                assert resumed.step == step - 1
                assert resumed.layout == LAYOUTS[step - 1].model_dump()
                assert found == {name: before[name] for name in found}
            assert saved == {name: whole[name] for name in saved}  # in a pipeline a process has some of the layers
            assert len(saved) == len(whole) or layout.pipeline > 1
        assert before is None or whole.keys() == before.keys()
        before = whole
        names = {path.name for path in (tmp_path / f"step-{step:08d}").iterdir()}
        assert names == {"manifest.json", "index.json", *(f"rank-{r:05d}.safetensors" for r in range(layout.processes))}


def small() -> dict[str, Tensor]:
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    return {"w": distribute_tensor(torch.arange(64.0).view(8, 8), mesh, [Shard(0)])}


def save_small(folder: Path, *steps: int) -> None:
    with Checkpointer(folder, {}) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"w": small()["w"] + step})


def load_small(folder: Path) -> tuple[int, float, str]:
    """The step, a weight, and what was said."""
    state, said = small(), io.StringIO()
    with redirect_stderr(said), Checkpointer(folder, {}) as checkpoints:
        resumed = checkpoints.load(state)
    assert resumed is not None
    return resumed.step, state["w"].full_tensor()[0, 0].item(), said.getvalue()


def swap(folder: Path) -> str:
    first, second = folder / "rank-00000.safetensors", folder / "rank-00001.safetensors"
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return "rank-00000.safetensors is damaged"


def flip_in_the_last(folder: Path) -> str:
    path = folder / "rank-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 128
    path.write_bytes(content)
    return "rank-00002.safetensors is damaged"


def drop(folder: Path) -> str:
    (folder / "rank-00001.safetensors").unlink()
    return "rank-00001.safetensors is missing"


def test_all_ranks_take_the_older_one_where_one_file_is_damaged(tmp_path: Path) -> None:
    for damage in (swap, flip_in_the_last, drop):
        in_processes(3, save_small, tmp_path, 1, 2)
        expected = damage(tmp_path / "step-00000002")
        (*first, said), *others = in_processes(3, load_small, tmp_path)
        assert first == [1, 1.0]
        assert others == [(1, 1.0, "")] * 2
        assert said.count(expected) == 1


def save_with_a_full_disk_on_rank_1(folder: Path) -> str:
    """A limit on the size of rank 1's files: the system refuses the write, as with a disk that is full."""
    state, checkpoints = small(), Checkpointer(folder, {})
    if torch.distributed.get_rank() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
    checkpoints.save(2, state)
    with pytest.raises(ValueError) as error:
        checkpoints.close()
    return str(error.value)


def test_a_write_that_fails_on_one_rank_is_said_by_all(tmp_path: Path) -> None:
    in_processes(2, save_small, tmp_path, 1)
    said = in_processes(2, save_with_a_full_disk_on_rank_1, tmp_path)
    assert said[0] == said[1]
    assert "rank 1 cannot write" in said[0]
    assert "rank-00001.safetensors (File too large); the last checkpoint is kept" in said[0]
    assert in_processes(2, load_small, tmp_path)[0] == (1, 1.0, "")


def save_and_die_on_rank_1(folder: Path) -> str:
    """Rank 1 is gone while it writes; the other must not wait for it."""
    state, checkpoints = small(), Checkpointer(folder, {})
    if torch.distributed.get_rank() == 1:
        dcp_safetensors.save_file = lambda *arguments: os._exit(9)
    checkpoints.save(2, state)
    with pytest.raises(ValueError) as error:
        checkpoints.close()
    (folder / "said").write_text(str(error.value))
    return str(error.value)


def test_a_rank_that_dies_while_saving_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    in_processes(2, save_small, tmp_path, 1)
    with pytest.raises(Exception, match="terminated abruptly"):
        in_processes(2, save_and_die_on_rank_1, tmp_path)
    assert in_processes(2, load_small, tmp_path)[0] == (1, 1.0, "")
