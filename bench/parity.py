"""Are inhouse's logits those of transformers? Largest difference and agreement of expert choices, both in fp32.

    .venv/bin/python bench/parity.py [--model FOLDER ...] [--write]

Without --model: one model of each architecture with random weights, norms and balancing biases included. For each,
8 sequences of 256 random tokens. `back again` says whether folder -> inhouse -> folder gives the same bits.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.model.config import ModelConfig
from inhouse.model.huggingface import CLASSES
from inhouse.model.transformer import Transformer

SEQUENCES, TOKENS = 8, 256
SHAPE: dict[str, Any] = {
    "vocab_size": 4096, "hidden_size": 256, "num_layers": 6, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64,
    "intermediate_size": 768, "max_position": 512,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 32, "num_experts_per_token": 4, "moe_intermediate_size": 128, "num_shared_experts": 1,
    "num_dense_layers": 1, "routed_scaling_factor": 1.5,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"architecture": "qwen3"},
    "glm4_moe": {"architecture": "glm4_moe", **EXPERTS},
    # as GLM-4.5 uses what the architecture allows
    "glm4_moe-biased": {"architecture": "glm4_moe", "attention_bias": True, "partial_rotary_factor": 0.5, **EXPERTS},
    "glm4_moe-plain": {"architecture": "glm4_moe", "qk_norm": False, "partial_rotary_factor": 0.5, **EXPERTS},
    "exaone_moe": {"architecture": "exaone_moe", **EXPERTS, "sliding_window": 64, "sliding_window_pattern": 3},
}


class Result(NamedTuple):
    """`difference` of logits whose deviation is `deviation`; `same_experts` of `num_choices` sets of a token's K."""

    model: str
    architecture: str
    difference: float
    deviation: float
    same_experts: int
    num_choices: int
    same_bits: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="model folders; default: random models")
    parser.add_argument("--write", action="store_true", help="write bench/results/parity.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folders = arguments.model or list(random_models(Path(scratch)))
        results = [compare(folder, Path(scratch)) for folder in folders]
    text = table(results)
    print(text)
    if arguments.write:
        command = " ".join([".venv/bin/python", *sys.argv])
        title = f"# Logits against transformers, fp32, {SEQUENCES} sequences of {TOKENS} random tokens"
        Path("bench/results/parity.md").write_text(f"{title}\n\n    {command}\n\n{text}\n", encoding="utf-8")
    if any(r.difference > 1e-4 or r.same_experts < r.num_choices or not r.same_bits for r in results):
        sys.exit("not the same")


@torch.inference_mode()
def compare(folder: Path, scratch: Path) -> Result:
    ours = load_model(folder)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chosen: list[torch.Tensor] = []
    for name, module in theirs.named_modules():
        if name.endswith("mlp.gate"):
            module.register_forward_hook(lambda module, inputs, output: chosen.append(output[-1]))
    length = min(TOKENS, ours.config.max_position)
    tokens = torch.randint(ours.config.vocab_size, (SEQUENCES, length), generator=torch.Generator().manual_seed(0))
    expected, out = theirs(tokens).logits, ours(tokens)
    pairs = zip((routing.experts_NK for routing in out.routing), chosen, strict=True)
    same = [(a.sort(dim=-1).values == b.sort(dim=-1).values).all(dim=-1) for a, b in pairs]
    return Result(
        model=folder.name,
        architecture=CLASSES[ours.config.architecture],
        difference=float((ours.logits(out.hidden_BTD) - expected).abs().max()),
        deviation=float(expected.std()),
        same_experts=sum(int(layer.sum()) for layer in same),
        num_choices=sum(layer.numel() for layer in same),
        same_bits=comes_back(ours, folder, scratch / "back"),
    )


def comes_back(model: Transformer, folder: Path, target: Path) -> bool:
    """Whether the tensors that inhouse writes are those that it has read; fp32 folders (others are widened)."""
    save_model(model, target)
    before, after = (
        {name: tensor for path in where.glob("*.safetensors") for name, tensor in load_file(path).items()}
        for where in (folder, target)
    )
    return before.keys() == after.keys() and all(torch.equal(before[name].float(), after[name]) for name in before)


def random_models(scratch: Path) -> Iterator[Path]:
    for name, shape in SHAPES.items():
        model = Transformer(ModelConfig(**SHAPE, **shape))
        model.initialize(0)
        torch.manual_seed(0)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(torch.randn_like(tensor) * 0.1)
        save_model(model, scratch / f"random-{name}")
        yield scratch / f"random-{name}"


def table(results: list[Result]) -> str:
    lines = [
        "| model | class | largest difference | deviation of the logits | same experts | back again |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        experts = f"{r.same_experts} of {r.num_choices}" if r.num_choices else "dense"
        lines.append(
            f"| {r.model} | {r.architecture} | {r.difference:.1e} | {r.deviation:.2f} | {experts} "
            f"| {'same bits' if r.same_bits else 'different'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
