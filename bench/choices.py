"""Why gradients in bf16 differ where a layout, or a compiler, rounds otherwise: some tokens choose other experts.

PYTHONPATH=. .venv/bin/python bench/choices.py      # writes bench/results/choices.md
"""

import os
import platform
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from bench.parallel import CONFIG, gradients_of, parse, settings
from torch import Tensor

from inhouse.parallel.device_mesh import SINGLE, Mesh

RESULTS = Path(__file__).parent / "results"
MODELS = {"top-2 of 8": CONFIG, "all 8": CONFIG.model_copy(update={"num_experts_per_token": CONFIG.num_experts})}
TOGETHER = ("context=2", "context=2,ring=2", "shard=2,experts=2")
COMPILED = "one process, compiled"

Gradients = dict[str, Tensor]


def gradients(model: str, layout: str, precision: str, compiled: bool = False) -> Gradients:
    mesh = Mesh(parse(layout)) if layout else SINGLE
    chosen = settings(1).model_copy(update={"precision": precision, "compile": compiled})
    return gradients_of(mesh, chosen, MODELS[model])


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), 2), rank=rank, world_size=2)
    found = {(model, layout): gradients(model, layout, "bf16") for model in MODELS for layout in TOGETHER}
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


def row(model: str, way: str, found: Gradients, one: Gradients, exact: Gradients) -> str:
    """One way beside one process in bf16 and in fp32."""

    def moved(a: Gradients, b: Gradients) -> int:
        """Choices that some expert lost to another, at least."""
        return int((a["tokens an expert"] - b["tokens an expert"]).abs().sum()) // 2

    def apart(a: Gradients, b: Gradients) -> tuple[float, float, str]:
        """The largest relative difference of a parameter's gradient by norm, the median, and which has the largest."""
        names = [name for name in exact if name not in ("norm of all", "tokens an expert")]
        each = sorted((((a[name] - b[name]).norm() / b[name].norm()).item(), name) for name in names)
        return each[-1][0], each[len(each) // 2][0], each[-1][1]

    most, median, name = apart(found, one)
    cells = [f"{most:.1e} ({name})", f"{median:.1e}", f"{moved(found, one)}"]
    cells += [f"{apart(found, exact)[0]:.1e}, {apart(found, exact)[1]:.1e}", f"{moved(found, exact)}"]
    return f"| {model} | {way} | {' | '.join(cells)} |"


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_rank, (Path(folder),), nprocs=2)
        together = torch.load(Path(folder) / "found.pt", weights_only=True)
    lines = []
    for model in MODELS:
        exact, one = gradients(model, "", "fp32"), gradients(model, "", "bf16")
        ways = {"one process": one, **{layout: together[model, layout] for layout in TOGETHER}}
        ways[COMPILED] = gradients(model, "", "bf16", compiled=True)
        lines += [row(model, way, found, one, exact) for way, found in ways.items()]
    text = [
        "# Choices of experts in bf16",
        "",
        "The model of `bench/parallel.py` in bf16, gradients before the first step, against one process in bf16 and in "
        "fp32: the largest and the median of the relative differences of a parameter's gradient by norm, and how many "
        "of 1,152 choices of experts are others, counted by the experts' loads. With all 8 experts there is no choice.",
        "",
        f"`PYTHONPATH=. .venv/bin/python bench/choices.py`, {platform.machine()}, torch {torch.__version__}",
        "",
        "| experts | way | largest from one process | median | other choices | from fp32: largest, median | other "
        "choices |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *lines,
    ]
    (RESULTS / "choices.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
