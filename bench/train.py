"""How fast a training step is: against transformers on this machine, or a recipe's own tokens/s, TFLOP/s and MFU.

.venv/bin/python bench/train.py                    # against transformers' Glm4Moe, paired rounds in one process
.venv/bin/python bench/train.py --recipe gpu       # a recipe's model on this machine's device
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import Glm4MoeConfig, Glm4MoeForCausalLM

from inhouse.common.devices import keep_freed_memory, pick_device
from inhouse.model.compilation import can_compile, compile_blocks
from inhouse.model.cross_entropy import cross_entropy
from inhouse.model.huggingface import config_to_hf
from inhouse.model.sizes import ModelSettings
from inhouse.model.transformer import Transformer
from inhouse.recipe.ready import find_recipe
from inhouse.recipe.recipe import load_recipe
from inhouse.train.flops import flops_per_token, peak_flops
from inhouse.train.step import Batch, TrainStep, loss_of

RESULTS = Path(__file__).parent / "results"
VOCABULARY, SEQUENCES, LENGTH = 4096, 8, 512


def our_step(config, precision: torch.dtype) -> Callable[[torch.Tensor], float]:
    model = Transformer(config, precision)
    model.initialize(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    loss_fn = fast_loss(model)

    def step(tokens: torch.Tensor) -> float:
        loss, _ = loss_of(model, Batch(tokens[:, :-1], tokens[:, 1:]), loss_fn)
        loss = loss / tokens[:, 1:].numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def fast_loss(model: Transformer) -> Callable[..., torch.Tensor]:
    """The trainer's cross entropy, it and the model's blocks compiled where torch can (in bf16)."""
    if not can_compile(model, trains=True):
        return cross_entropy
    compile_blocks(model)
    return cross_entropy.compiled()


def their_step(config, precision: torch.dtype, start: Transformer) -> Callable[[torch.Tensor], float]:
    fields = config_to_hf(config, torch.float32, {})
    fields.pop("architectures"), fields.pop("model_type")
    model = Glm4MoeForCausalLM(Glm4MoeConfig(**fields, experts_implementation="grouped_mm"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(tokens: torch.Tensor) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = model(input_ids=tokens[:, :-1], labels=tokens[:, :-1], shift_labels=tokens[:, 1:].contiguous()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def against_transformers(rounds: int) -> list[str]:
    """Alternate one step of each, so that a noisy neighbour disturbs both."""
    config, _ = ModelSettings(architecture="glm4_moe", size="preview", context=LENGTH).resolve(VOCABULARY)
    lines = []
    for precision in (torch.bfloat16, torch.float32):
        start = Transformer(config)
        steps = {"inhouse": our_step(config, precision), "transformers": their_step(config, precision, start)}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for round_ in range(rounds + 2):  # the first two rounds warm up and compile
            tokens = torch.randint(0, VOCABULARY, (SEQUENCES, LENGTH + 1))
            for name, step in steps.items():
                begin = time.perf_counter()
                step(tokens)
                if round_ >= 2:
                    times[name].append(time.perf_counter() - begin)
        ratios = [theirs / ours for ours, theirs in zip(times["inhouse"], times["transformers"], strict=True)]
        rate = {name: SEQUENCES * LENGTH / statistics.median(seconds) for name, seconds in times.items()}
        low, middle, high = (statistics.quantiles(ratios, n=10)[i] for i in (0, 4, 8))
        lines.append(
            f"| {str(precision).removeprefix('torch.')} | {rate['inhouse']:,.0f} | {rate['transformers']:,.0f} | "
            f"**{middle:.2f}** ({low:.2f} to {high:.2f}) |"
        )
        print(lines[-1], flush=True)
    return lines


def of_recipe(name: str, steps: int) -> str:
    """Train a recipe's model on random tokens for a few steps of its own batch."""
    recipe = load_recipe(find_recipe(name))
    settings = recipe.pretrain
    config, _ = recipe.model.resolve(recipe.tokenizer.vocab_size)
    device = pick_device(settings.device)
    model = Transformer(config, torch.bfloat16)
    model.initialize(1)
    step = TrainStep(model.to(device), settings)
    step.compile()
    length, seconds = settings.sequence_length, []
    for _ in range(steps + 3):
        tokens = torch.randint(0, config.vocab_size, (settings.batch_tokens // length, length + 1), device=device)
        begin = time.perf_counter()
        gradients = step.gradients(Batch(tokens[:, :-1], tokens[:, 1:]))
        step.update(0.01, gradients.balances)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    rate = settings.batch_tokens / statistics.median(seconds[3:])
    flops, peak = rate * flops_per_token(config, length), peak_flops(device)
    total, active = config.count_parameters()
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    mfu = f"{flops / peak:.1%}" if peak else "n/a (peak not known)"
    return (
        f"{name} on {where}: {total / 1e6:,.1f} M parameters, {active / 1e6:,.1f} M active: {rate:,.0f} tokens/s, "
        f"{flops / 1e12:.2f} TFLOP/s, MFU {mfu}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe")
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    if arguments.recipe:
        print(of_recipe(arguments.recipe, arguments.rounds))
        return
    table = [
        "# Training step against transformers",
        "",
        "Forward, backward and AdamW of the same Glm4Moe (preview-moe: 4 layers of 256, 16 experts of 128, top-2, one "
        f"shared), {SEQUENCES} sequences of {LENGTH} tokens, alternating in one process. bf16 is autocast there and "
        "bf16 activations over fp32 weights here, compiled here; fp32 is uncompiled on both sides. Their experts run "
        'as grouped matmuls (`experts_implementation="grouped_mm"`), their fastest setting here.',
        "",
        f"`.venv/bin/python bench/train.py --rounds {arguments.rounds}`, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}",
        "",
        "| precision | inhouse tokens/s | transformers tokens/s | ratio of paired steps: median (10 % to 90 %) |",
        "| --- | --- | --- | --- |",
        *against_transformers(arguments.rounds),
    ]
    (RESULTS / "train.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
