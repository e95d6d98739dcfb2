"""A run that goes on with another number of processes sees the same tokens, and loses none."""

import json
from pathlib import Path

import pytest
import torch.distributed as dist
from tests.processes import in_processes
from tests.tiny_models import batch_of, tiny_model, train
from tests.train.test_trainer import losses, settings

from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import ParallelSettings
from inhouse.train.step import Batch

NUM_STEPS = 8
PHASES = [  # such a layout, up to this step
    (ParallelSettings(shard=4, vocabulary=2), 2),
    (ParallelSettings(pipeline=2, replicate=2), 4),
    (ParallelSettings(shard=2, vocabulary=2), 5),
    (ParallelSettings(shard=3), 6),
    (ParallelSettings(), NUM_STEPS),
]


def run(folder: Path, layout: ParallelSettings, until: int) -> None:
    """Train on one layout; interrupted when step `until` asks for its batch. Notes the tokens of each slot."""
    mesh, processes = Mesh(layout), layout.processes
    slots = mesh.dp_rows(12)

    def part(step: int) -> Batch:
        if step == until < NUM_STEPS:
            raise KeyboardInterrupt
        whole = batch_of(step, num_sequences=12)
        # behind the run's own lie those that say whether it learned; all of a pipeline read the same
        for slot in slots if step < NUM_STEPS and mesh.place == 0 else ():
            with (folder / f"{step}-{slot}-{processes}.tokens").open("x") as file:
                json.dump(whole.tokens_BT[slot].tolist(), file)
        return Batch(whole.tokens_BT[slots.start : slots.stop], whole.targets_BT[slots.start : slots.stop])

    model = tiny_model("glm4_moe")
    changes = {"batch_tokens": 192, "micro_batch_tokens": 48, "checkpoint_every": 1}
    try:
        train(
            model,
            part,
            NUM_STEPS,
            settings(**changes),
            folder / "run",
            name="test",
            run_identity={"seed": 0},
            mesh=mesh,
        )
    except KeyboardInterrupt:
        assert dist.is_initialized() or processes == 1


def test_four_then_a_pipeline_then_two_then_three_then_one(tmp_path: Path) -> None:
    (tmp_path / "elastic").mkdir()
    (tmp_path / "alone").mkdir()
    for layout, until in PHASES:
        if layout.processes > 1:
            in_processes(layout.processes, run, tmp_path / "elastic", layout, until)
        else:
            run(tmp_path / "elastic", layout, until)
    run(tmp_path / "alone", ParallelSettings(), NUM_STEPS)

    def tokens(folder: Path) -> dict[str, str]:
        return {path.name.rpartition("-")[0]: path.read_text() for path in folder.glob("*.tokens")}

    assert tokens(tmp_path / "elastic") == tokens(tmp_path / "alone")
    assert len(list((tmp_path / "elastic").glob("*.tokens"))) == 12 * NUM_STEPS  # none twice, on whatever layout
    whole, parts = losses(tmp_path / "alone" / "run"), losses(tmp_path / "elastic" / "run")
    assert [step for step, _ in parts] == list(range(1, NUM_STEPS + 1))
    for (_, a), (_, b) in zip(whole, parts, strict=True):
        assert b == pytest.approx(a, rel=1e-5)
