"""Tokens a second of generation: the engine against transformers' `generate`, on the same folder, paired in one run.

    .venv/bin/python bench/generate.py [--rounds 7] [--compile] [--write]

Two models of the preview's size with random weights, dense (Qwen3) and MoE (Glm4Moe), each in fp32 and bf16: 1 and 32
prompts of 64 random tokens, 128 greedy tokens each. Both sides take turns, the first of a round changing; prompts are
new in every round, so that no prefix is known. The ratio is that of a round; median, least and most are printed.
"""

import argparse
import itertools
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM

from inhouse.checkpoint.model_folder import DTYPES, load_model, save_model
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.compilation import can_compile
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer

NUM_PROMPT, NUM_TOKENS = 64, 128
SHAPE: dict[str, Any] = {
    "vocab_size": 4096, "hidden_size": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64,
    "intermediate_size": 768, "max_position": 1024,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 16, "num_experts_per_token": 2, "moe_intermediate_size": 128, "num_shared_experts": 1,
    "num_dense_layers": 1,
}  # fmt: skip
MODELS = {"dense": {"architecture": "qwen3"}, "MoE": {"architecture": "glm4_moe", **EXPERTS}}
RESULTS = Path(__file__).with_name("results") / "generate.md"
Generate = Callable[[torch.Tensor], list[list[int]]]


class Bytes:
    """Stands for a tokenizer: the engine turns tokens into text as it goes, transformers does not."""

    end_of_document, end_of_turn = 0, 2

    def decode_bytes(self, ids: list[int]) -> bytes:
        return bytes(i % 128 for i in ids)


def new_folder(kind: str, folder: Path) -> None:
    """A model whose every part matters to the next token."""
    model = Transformer(ModelConfig(**SHAPE, **MODELS[kind]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                deviation = 1.0 if name.startswith("embed") else weight.shape[-1] ** -0.5
                weight.copy_(torch.empty(weight.shape).normal_(0.0, deviation, generator=generator))
    save_model(model, folder)


def open_inhouse(folder: Path, dtype: torch.dtype, compiles: bool) -> Generate:
    model = load_model(folder, dtype, weights_dtype=dtype)
    engine = Engine(model, Bytes(), EngineSettings(compile=compiles))  # type: ignore[arg-type]
    params = SamplingParams(max_tokens=NUM_TOKENS, temperature=0, ignore_eos=True)
    return lambda prompts: [completion.token_ids for completion in engine.generate(prompts.tolist(), params)]


def open_transformers(folder: Path, dtype: torch.dtype) -> Generate:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    model.generation_config.eos_token_id = None

    def generate(prompts: torch.Tensor) -> list[list[int]]:
        ones = torch.ones_like(prompts)
        out = model.generate(prompts, attention_mask=ones, do_sample=False, max_new_tokens=NUM_TOKENS, pad_token_id=0)
        return out[:, prompts.shape[1] :].tolist()

    return generate


def time_of(generate: Generate, prompts: torch.Tensor) -> tuple[float, list[list[int]]]:
    start = time.perf_counter()
    tokens = generate(prompts)
    return time.perf_counter() - start, tokens


class Comparison(NamedTuple):
    """Tokens a second, ratios of the rounds, and the share of tokens before the first difference."""

    tokens_per_second: float
    ratios: list[float]
    equal: float


def compare(sides: list[Generate], num_requests: int, rounds: int) -> list[Comparison]:
    """All sides against the last one."""
    generator = torch.Generator().manual_seed(1)
    seconds: list[list[float]] = [[] for _ in sides]
    equal: list[list[int]] = [[] for _ in sides]
    for i in range(rounds + 1):  # the first warms up, and compiles
        prompts = torch.randint(5, SHAPE["vocab_size"], (num_requests, NUM_PROMPT), generator=generator)
        order = list(range(len(sides)))[:: 1 if i % 2 else -1]
        results = {side: time_of(sides[side], prompts) for side in order}
        for side in order if i else ():
            seconds[side].append(results[side][0])
            for ours, theirs in zip(results[side][1], results[len(sides) - 1][1], strict=True):
                same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=True))
                equal[side].append(sum(1 for _ in same))
    return [
        Comparison(
            num_requests * NUM_TOKENS / statistics.median(own),
            [theirs / ours for ours, theirs in zip(own, seconds[-1], strict=True)],
            statistics.mean(equal[side]) / NUM_TOKENS,
        )
        for side, own in enumerate(seconds)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="the engine with compiled decoding as well")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    lines = [
        "# Generation against transformers",
        "",
        f"`.venv/bin/python bench/generate.py {' '.join(sys.argv[1:])}` on {os.cpu_count()} cores "
        f"({platform.machine()}), torch {torch.__version__}, transformers {transformers.__version__}. "
        f"{NUM_PROMPT} prompt tokens and {NUM_TOKENS} greedy tokens a request; same folder, same precision, "
        f"taking turns; median (least to most) of {args.rounds} rounds.",
        "",
        "| model | precision | requests | inhouse | tokens/s | transformers, tokens/s | ratio | same tokens |",
        "| --- | --- | ---: | --- | ---: | ---: | --- | ---: |",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for kind, (precision, dtype) in itertools.product(MODELS, DTYPES.items()):
            folder = Path(temporary) / kind
            if not folder.exists():
                new_folder(kind, folder)
            sides = {"as it is": open_inhouse(folder, dtype, False)}
            if args.compile and can_compile(load_model(folder, dtype), trains=False):
                sides["compiled"] = open_inhouse(folder, dtype, True)
            theirs = open_transformers(folder, dtype)
            for num_requests in (32, 1):
                *ours, last = compare([*sides.values(), theirs], num_requests, args.rounds)
                for name, side in zip(sides, ours, strict=True):
                    lines.append(
                        f"| {kind} | {precision} | {num_requests} | {name} | {side.tokens_per_second:.0f} "
                        f"| {last.tokens_per_second:.0f} | {statistics.median(side.ratios):.2f} "
                        f"({min(side.ratios):.2f} to {max(side.ratios):.2f}) | {side.equal:.1%} |"
                    )
                    print(lines[-1], flush=True)
    if args.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
