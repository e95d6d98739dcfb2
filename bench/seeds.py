"""How many of 24 seeded answers are the same alone and among the others, in fp32 and bf16, compiled or not.

    python bench/seeds.py [--write]

A model of random weights whose next tokens are all about as likely, sampled at temperature 1: the hardest case. Of each
answer that changes, how many of its tokens came before. `--write` puts the table into bench/results/seeds.md.
"""

import argparse
import platform
from pathlib import Path
from statistics import median

import torch

from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import EngineSettings
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from tiny_server import new_tokenizer

PAGE = Path(__file__).parent / "results" / "seeds.md"
COUNT, LENGTH = 24, 64  # answers, and tokens of each


def new_model(dtype: torch.dtype, vocab_size: int) -> Transformer:
    config = ModelConfig(
        architecture="qwen3", vocab_size=vocab_size, hidden_size=256, num_layers=4, num_heads=8, num_kv_heads=2,
        head_dim=32, intermediate_size=512, max_position=256,
    )  # fmt: skip
    model, generator = Transformer(config, dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.06, generator=generator))
    model.to(dtype).eval().pack()  # as served
    return model


def row(engine: Engine, prompts: list[list[int]]) -> str:
    """How many are equal, and where the median of the others parts."""
    each = [
        SamplingParams(max_tokens=LENGTH, temperature=1.0, seed=number, ignore_eos=True)
        for number in range(len(prompts))
    ]
    together = [completion.token_ids for completion in engine.generate(prompts, each)]
    alone = [engine.generate([prompt], own)[0].token_ids for prompt, own in zip(prompts, each, strict=True)]
    parted = [
        next(place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        for one, other in zip(together, alone, strict=True)
        if one != other
    ]
    return f"{COUNT - len(parted)} of {COUNT} | {median(parted) if parted else '-'}"


def table() -> str:
    tokenizer = new_tokenizer(512)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 100, (COUNT,), generator=generator).tolist()
    prompts = [torch.randint(0, 512, (length,), generator=generator).tolist() for length in lengths]
    lines = ["| weights | compiled | the same | tokens before the others part, median |", "| --- | --- | --- | --- |"]
    for dtype in (torch.float32, torch.bfloat16):
        model = new_model(dtype, tokenizer.vocab_size)
        for compiles in (False, True):
            engine = Engine(model, tokenizer, EngineSettings(max_sequences=COUNT, compile=compiles))
            name = {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]
            lines.append(f"| {name} | {'yes' if compiles else 'no'} | {row(engine, prompts)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="the table into bench/results/seeds.md")
    options = parser.parse_args()
    found = table()
    print(found)
    if options.write:
        about = (
            f"Answers of {LENGTH} tokens to {COUNT} prompts, each with its seed, alone and among the others: "
            f"`python bench/seeds.py --write`, torch {torch.__version__.partition('+')[0]} on {platform.machine()}, "
            f"{torch.get_num_threads()} threads. The weights are random and the next tokens about as likely as each "
            "other, which is the hardest case."
        )
        PAGE.write_text(f"# Seeds\n\n{about}\n\n{found}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
