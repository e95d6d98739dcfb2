"""What a training step costs that can be counted without a GPU: bytes, collectives, waits, calls.

.venv/bin/python bench/count.py            # prints every figure
.venv/bin/python bench/count.py --write    # and writes bench/results/count.md
"""

import argparse
import hashlib
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from inhouse.common import hash_tree
from inhouse.data.documents import Document
from inhouse.data.loader import WindowLoader
from inhouse.data.shards import ShardWriter, finish_folder
from inhouse.model.config import ModelConfig
from inhouse.model.sizes import ModelSettings
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.fsdp import parallelize
from inhouse.parallel.layout import ParallelSettings
from inhouse.plan.collectives import Collective
from inhouse.plan.dry_run import DryRun, dry_run
from inhouse.plan.fake_world import even_routing, fake_processes, shared_mesh_parts
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe
from inhouse.train.prefetch import Prefetcher
from inhouse.train.settings import PretrainSettings
from inhouse.train.stage import as_batch
from inhouse.train.step import Batch

RESULTS = Path(__file__).with_name("results") / "count.md"
LENGTH = 128  # tokens of a process
DENSE = ModelConfig(  # the blocks of Qwen3-1.7B, with an untied vocabulary
    architecture="qwen3", vocab_size=98_304, hidden_size=2048, num_layers=28, num_heads=16, num_kv_heads=8,
    head_dim=128, intermediate_size=6144, max_position=4096, rope_theta=1e6,
)  # fmt: skip
MOE = ModelSettings(size="medium", context=4096).resolve(32_768)[0]


class Row(NamedTuple):
    """One figure, and what it must not exceed."""

    what: str
    figure: str
    bar: str


def rehearsed(config: ModelConfig, parallel: ParallelSettings, micro_batches: int = 1) -> DryRun:
    settings = PretrainSettings(
        sequence_length=LENGTH, batch_tokens=LENGTH * micro_batches * parallel.data, micro_batch_tokens=LENGTH
    )
    return dry_run(config, settings, parallel, parallel.processes)


def precision() -> Iterator[Row]:
    """What autograd keeps, and in which type weights travel."""
    run = rehearsed(DENSE, ParallelSettings(shard=8))
    what = f"dense {run.parameters / 1e9:.1f} B, 8 shards, {LENGTH} tokens"
    yield Row(f"{what}: kept for backward", gigabytes(run.activation_bytes), "0.5 GB")
    yield Row(f"{what}: weights gathered", _types(run, "all-gather"), "bf16")
    yield Row(f"{what}: gradients summed", _types(run, "reduce-scatter"), "fp32")
    yield Row(f"{what}: reads from the device a step", str(run.host_reads), "1")


def _types(run: DryRun, kind: str) -> str:
    found = [c for c in run.collectives if c.kind == kind]
    return ", ".join(f"{c.dtype} {gigabytes(c.bytes)} in {c.calls} calls" for c in found)


def accumulation() -> Iterator[Row]:
    """Gradients of copies are summed once a step."""
    few, many = (rehearsed(DENSE, ParallelSettings(replicate=2, shard=8), n) for n in (1, 4))
    both = [sum(c.bytes for c in run.collectives if _sums_copies(c)) for run in (few, many)]
    figure = f"{both[0] / 1e6:,.0f} and {both[1] / 1e6:,.0f} MB"
    yield Row("the same, 2 copies: all-reduced with 1 and with 4 micro-batches", figure, "equal")


def _sums_copies(collective: Collective) -> bool:
    return collective.kind == "all-reduce" and collective.group.endswith("replicate")


def experts() -> Iterator[Row]:
    """A mixture of experts under expert parallelism."""
    run = rehearsed(MOE, ParallelSettings(shard=8, experts=8))
    what = "8 processes share the experts"
    yield Row(f"MoE of {MOE.num_layers} layers, {what}: reads from the device a step", str(run.host_reads), "2")
    calls = moe_calls()
    names = ", ".join(f"{name} {count}" for name, count in calls.most_common(5))
    yield Row(f"router, experts, shared expert, {what}: operators, both ways", f"{calls.total()} ({names})", "145")


class Calls(TorchDispatchMode):
    """While it is entered, counts the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace not in ("prim", "profiler"):  # of the dispatcher itself
            self.counts[func.overloadpacket._qualified_op_name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def moe_calls() -> Counter[str]:
    """Operators of one mixture of experts, shared expert and router included, forward and backward."""
    parallel, calls = ParallelSettings(shard=8, experts=8), Calls()
    config = MOE.model_copy(update={"num_layers": 2, "num_dense_layers": 1})
    with fake_processes(8), shared_mesh_parts():
        mesh = Mesh(parallel)
        with torch.device("meta"):
            model = Transformer(config, torch.bfloat16)
        parallelize(model, mesh)
        rows = LENGTH * config.num_experts_per_token // parallel.experts
        with FakeTensorMode(allow_non_fake_inputs=True), even_routing(rows):
            model.to_empty(device="cpu")
            x_ND = torch.zeros(LENGTH, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
            block = model.layers[1]
            block.unshard()  # the experts gather their own
            with calls:
                out_ND, _ = block.mlp(x_ND)
                out_ND.sum().backward()
    return calls.counts


def transients() -> Iterator[Row]:
    """What the optimizer allocates beside weights, gradients and state."""
    for name in ("gpu", "node"):
        recipe = load_recipe(find_recipe(name))
        config, _ = recipe.model.resolve(recipe.tokenizer.vocab_size)
        run = dry_run(config, _smallest(recipe.pretrain, recipe.parallel), recipe.parallel, recipe.parallel.processes)
        yield Row(f"recipe {name}: most that the optimizer's update allocates", gigabytes(run.update_bytes), "4 GB")


def _smallest(settings: PretrainSettings, parallel: ParallelSettings) -> PretrainSettings:
    """A step of one sequence a process: the update is the same."""
    length = settings.sequence_length
    return settings.model_copy(update={"batch_tokens": length * parallel.data, "micro_batch_tokens": length})


def reading(tokens: int = 112_000_000, steps: int = 6, batch: int = 32_768) -> Iterator[Row]:
    """Bytes that are read and hashed for the first steps on one shard, and by whom."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = ShardWriter(folder, "new", "<u2", tokens)
        ids = np.arange(1_000_000, dtype=np.uint16)
        for number in range(tokens // len(ids)):
            writer.add(Document("", 0, str(number)), ids, 0)
        writer.close()
        finish_folder(folder, writer.shards)
        for length in (512, 4096):
            loader = WindowLoader(folder, 1, length, batch // length)
            hash_tree._tree_page.cache_clear()
            with hashed() as sizes, Prefetcher(partial(_batch, loader), torch.device("cpu")) as prefetcher:
                for step in range(steps):
                    prefetcher.take(step)
            own, all_ = sizes["MainThread"], sizes.total()
            figure = f"{own / 1e6:,.2f} MB (beside it {(all_ - own) / 1e6:,.2f})"
            what = f"shard of {2 * tokens / 1e6:,.0f} MB, windows of {length:,} tokens, {steps} steps"
            what += ": hashed by the training thread"
            yield Row(what, figure, f"{2 * steps * batch * 2 / 1e6:.2f} MB")


def _batch(loader: WindowLoader, number: int) -> Batch:
    return as_batch(loader.batch(number), "causal", 0)


@contextmanager
def hashed() -> Iterator[Counter[str]]:
    """Inside, the bytes that every thread hashes, by its name."""
    sizes = Counter[str]()

    def sha256(data: bytes = b"") -> Any:
        sizes[threading.current_thread().name] += len(data)
        return hashlib.sha256(data)

    with patch.object(hash_tree, "hashlib", SimpleNamespace(sha256=sha256)):
        yield sizes


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write bench/results/count.md")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for part in (precision, accumulation, experts, transients, reading):
        for row in part():
            print(f"{row.what}: {row.figure} (bar: {row.bar})", flush=True)
            rows.append(row)
    if not arguments.write:
        return
    text = [
        "# What a training step costs, counted",
        "",
        "On fake tensors and a fake process group, by the code that trains: the first of the processes, one step. No "
        "GPU takes part, so these are counts, not times.",
        "",
        f"`.venv/bin/python bench/count.py --write`, torch {torch.__version__}",
        "",
        "| what | counted | at most |",
        "| --- | --- | --- |",
        *(f"| {row.what} | {row.figure} | {row.bar} |" for row in rows),
    ]
    RESULTS.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
