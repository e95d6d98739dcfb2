"""Whether every layout of processes trains as one process does: losses of 20 steps and gradients, in fp32.

.venv/bin/python bench/parallel.py                                  # every layout; writes bench/results/parallel.md
.venv/bin/python bench/parallel.py --layouts shard=2 shard=2,experts=2
"""

import argparse
import functools
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing import start_processes

from inhouse.common.dtensor import full_tensor
from inhouse.model.config import ModelConfig
from inhouse.model.fp8.linear import use_fp8
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings
from inhouse.train import loop
from inhouse.train.callbacks import default_callbacks
from inhouse.train.settings import TrainSettings
from inhouse.train.step import Batch, TrainStep

RESULTS = Path(__file__).parent / "results"
LOSS_BAR, GRADIENT_BAR = 1e-5, 1e-4
VOCABULARY, SEQUENCES, LENGTH = 64, 12, 16
CONFIG = ModelConfig(
    architecture="glm4_moe",
    vocab_size=VOCABULARY,
    hidden_size=48,
    num_layers=4,
    num_heads=4,
    num_kv_heads=4,
    head_dim=12,
    intermediate_size=64,
    max_position=LENGTH,
    num_experts=8,
    num_experts_per_token=2,
    moe_intermediate_size=48,
    num_shared_experts=1,
    num_dense_layers=1,
)
LAYOUTS = (
    "shard=2",
    "shard=4",
    "shard=2,experts=2",
    "shard=4,experts=2",
    "shard=4,experts=4",
    "context=2",
    "context=2,ring=2",
    "context=4,ring=4",
    "shard=2,context=4,ring=2,experts=2",
    "shard=2,context=2",
    "shard=2,context=2,experts=2",
    "shard=2,context=2,experts=4",
    "replicate=2",
    "replicate=2,shard=2,experts=2",
    "shard=3",
    "shard=2,vocabulary=2",
    "shard=4,vocabulary=2",
    "shard=2,context=2,experts=2,vocabulary=4",
    "replicate=2,shard=2,experts=2,vocabulary=2",
    "pipeline=2",
    "pipeline=4",
    "pipeline=2,pipeline_schedule=Interleaved1F1B",
    "pipeline=2,pipeline_schedule=InterleavedZeroBubble",
    "pipeline=2,pipeline_schedule=ZBVZeroBubble",
    "pipeline=2,shard=2",
    "pipeline=2,replicate=2,recompute=true",
    "pipeline=2,shard=2,experts=2,pipeline_schedule=Interleaved1F1B",
    "pipeline=2,shard=2,experts=2,pipeline_schedule=ZBVZeroBubble",
    "pipeline=2,context=2,experts=2,vocabulary=2,pipeline_schedule=InterleavedZeroBubble",
    "pipeline=2,context=2,ring=2,pipeline_schedule=ZBVZeroBubble",
)


class Result(NamedTuple):
    """What one layout trained: the loss of every step; before the first each parameter's whole gradient, the norm of
    all, and how many tokens each expert got.
    """

    losses: list[float]
    gradients: dict[str, Tensor]


def settings(steps: int) -> TrainSettings:
    return TrainSettings(
        batch_tokens=SEQUENCES * LENGTH, precision="fp32", compile=False, device="cpu", checkpoint_every=steps,
        log_every=1, warmup_steps=2, embedding_lr=0.05, matrix_lr=0.005, micro_batch_tokens=2 * LENGTH,
    )  # fmt: skip


def parse(text: str) -> ParallelSettings:
    """`shard=2,experts=2`; an empty text is one process."""
    chosen = dict(part.split("=") for part in text.split(",") if part)
    return ParallelSettings.model_validate_strings({**chosen, "timeout_seconds": "30"})


def batch_of(step: int, mesh: Mesh) -> Batch:
    """Documents of random length, of tokens that count up or down; the first eighth of each is not trained."""
    generator = torch.Generator().manual_seed(step)
    start, stride, cut = (torch.randint(low, high, (SEQUENCES, 1), generator=generator)
                          for low, high in ((0, VOCABULARY), (1, 4), (3, LENGTH - 3)))  # fmt: skip
    places = torch.arange(LENGTH + 1)
    tokens = (start + stride * places) % VOCABULARY
    documents = (places[:-1] >= cut).long()
    positions = torch.where(documents == 1, places[:-1] - cut, places[:-1])
    targets = tokens[:, 1:].masked_fill(positions < LENGTH // 8, -100)
    slots = mesh.dp_rows(SEQUENCES)
    rows = slice(slots.start, slots.stop)
    return Batch(tokens[rows, :-1], targets[rows], documents[rows], positions[rows])


def trained(mesh: Mesh, steps: int, folder: Path) -> Result:
    """Train the tiny mixture of experts on one layout."""
    gradients = gradients_of(mesh, settings(1))
    with torch.device("meta"):
        model = Transformer(CONFIG)
    source, fill = functools.partial(batch_of, mesh=mesh), functools.partial(Transformer.initialize, seed=1)
    # whether it has learned is asked of one batch: eight before the first step and after the last are most of few steps
    with patch.object(loop, "batches_to_measure", lambda num_steps: ([num_steps], [])):
        loop.Trainer(model, source, steps, settings(steps), folder, "bench", {}, default_callbacks(), mesh, fill).run()
    if not mesh.is_first:
        return Result([], {})
    return Result([json.loads(line)["loss"] for line in (folder / "metrics.jsonl").open()], gradients)


def gradients_of(mesh: Mesh, settings: TrainSettings, config: ModelConfig = CONFIG) -> dict[str, Tensor]:
    """Of weights without zeros, so that something flows back through every one of them."""
    model = Transformer(config, torch.float32 if settings.precision == "fp32" else torch.bfloat16)
    if settings.is_fp8:
        use_fp8(model.layers, in_fp32=settings.precision == "fp8_reference")
    model.initialize(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.empty(weight.shape).normal_(0.0, 0.05, generator=generator))
    parallelize(model, mesh)
    step = TrainStep(model, settings, mesh)
    if settings.compile:
        step.compile()
    found = step.gradients(batch_of(0, mesh))
    gradients = {name: full_tensor(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters())), "a parameter without a gradient"
    if mesh.pipeline is not None:  # other processes have the other layers
        every: list[dict[str, Tensor]] = [{}] * mesh.layout.pipeline
        dist.all_gather_object(every, gradients, group=mesh.pipeline.get_group("pipeline"))
        gradients = {name: tensor for own in every for name, tensor in own.items()}
    loads = torch.stack([balance.load_E for balance in found.balances]).float()
    return gradients | {"norm of all": torch.tensor(found.norm), "tokens an expert": loads}


def run_layouts(layouts: Sequence[str], steps: int, folder: Path) -> dict[str, Result]:
    """Every layout, those of one number of processes in the same processes."""
    results = {}
    for processes in sorted({parse(text).processes for text in layouts}):
        same = [text for text in layouts if parse(text).processes == processes]
        if processes == 1:
            results |= {text: trained(Mesh(parse(text)), steps, folder / f"1{i}") for i, text in enumerate(same)}
            continue
        place = folder / str(processes)
        place.mkdir()
        start_processes(_rank, (processes, same, steps, place), processes, start_method="forkserver")
        results |= {text: Result(*torch.load(place / f"{i}.pt", weights_only=True)) for i, text in enumerate(same)}
    return results


def _rank(rank: int, processes: int, layouts: Sequence[str], steps: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(folder / "store"), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    for i, text in enumerate(layouts):
        result = trained(Mesh(parse(text)), steps, folder / f"run{i}")
        if rank == 0:
            torch.save(tuple(result), folder / f"{i}.pt")
    dist.destroy_process_group()


def differences(result: Result, reference: Result) -> tuple[float, float, str]:
    """The largest relative difference of a loss; that of a gradient, by norm, and the parameter it is of."""
    loss = max(abs(a / b - 1) for a, b in zip(result.losses, reference.losses, strict=True))
    gradient, name = max(
        (((result.gradients[name] - g).norm() / g.norm()).item(), name) for name, g in reference.gradients.items()
    )
    return loss, gradient, name


def table(layouts: Sequence[str], steps: int) -> list[str]:
    """A line a layout: how far it is from one process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = run_layouts(["", *layouts], steps, Path(folder))
    lines = []
    for text in layouts:
        loss, gradient, name = differences(results[text], results[""])
        holds = "yes" if loss <= LOSS_BAR and gradient <= GRADIENT_BAR else "**no**"
        lines.append(f"| {text} | {parse(text).processes} | {loss:.1e} | {gradient:.1e} ({name}) | {holds} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layouts", nargs="+", help="only these, and write nothing")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    lines = table(arguments.layouts or LAYOUTS, arguments.steps)
    if arguments.layouts:
        return
    text = [
        "# Every layout against one process",
        "",
        f"A mixture of experts of {CONFIG.num_layers} layers of {CONFIG.hidden_size}, {CONFIG.num_experts} experts "
        f"top-{CONFIG.num_experts_per_token}, {arguments.steps} steps of {SEQUENCES} sequences of {LENGTH} tokens in "
        "fp32, Muon and AdamW, gloo. Largest relative difference of a step's loss "
        f"(bar {LOSS_BAR:.0e}), and of a parameter's gradient by norm, before the first step (bar {GRADIENT_BAR:.0e}).",
        "",
        f"`.venv/bin/python bench/parallel.py`, {platform.machine()}, torch {torch.__version__}",
        "",
        "| layout | processes | loss | gradient (of) | within both bars |",
        "| --- | --- | --- | --- | --- |",
        *lines,
    ]
    (RESULTS / "parallel.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
