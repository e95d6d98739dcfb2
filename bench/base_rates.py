"""At what learning rates to go on from somebody's model: what it gains on new text, and loses on its old.

    PYTHONPATH=. python bench/base_rates.py WORK [--own RUN]

makes in WORK a small Qwen3 as others train one (transformers, AdamW, bf16, tied embedding of deviation 0.02) on a part
of the standard library, then goes on from it with `[model] base` on other text at several rates, and prints for each
the losses on held-out text, old and new, before and after. `--own`: the same from a run's base model.
"""

import argparse
import ast
import email
import json
import math
from pathlib import Path

import torch
from tests.foreign import make_foreign
from transformers import AutoModelForCausalLM, AutoTokenizer

from inhouse.checkpoint.model_folder import load_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.optim.settings import RATES_OF_A_BASE
from inhouse.pipeline.runner import make
from inhouse.recipe.recipe import load_recipe

TIMES = (0.25, 1.0, 4.0, 16.0)
NEW = Path(__file__).parents[1] / "docs"


def texts(folder: Path, pattern: str) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(folder.glob(pattern))]


def train_foreign(folder: Path, old: list[str], steps: int, width: int) -> None:
    """AdamW at 1e-3, cosine, as model cards say."""
    make_foreign(folder, old, vocab_size=2048, hidden_size=width, layers=2)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([i for text in old for i in [tokenizer.pad_token_id, *tokenizer.encode(text)]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.05)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        starts = torch.randint(len(ids) - 257, (16, 1), generator=generator)
        rows = ids[starts + torch.arange(257)]
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.to(torch.bfloat16).save_pretrained(folder)


def measure(folder: Path, held: dict[str, list[str]]) -> dict[str, float]:
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    return {name: bits_per_byte(model, tokenizer, part, 256).value for name, part in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--own", type=Path, help="a run whose base model is gone on from instead")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--together", action="store_true", help="turn on all the rates together alone")
    arguments = parser.parse_args()
    work: Path = arguments.work
    library = [Path(module.__file__).parent for module in (email, json)]
    old = [text for folder in library for text in texts(folder, "*.py")]
    held = {"old": [Path(argparse.__file__).read_text()[:40_000], Path(ast.__file__).read_text()[:20_000]]}
    base = arguments.own or work / "foreign"
    if not base.is_dir():
        train_foreign(base, old, arguments.steps, arguments.width)
    if arguments.own:
        base = base / "pretrain"
    pages = sorted(NEW.glob("*.md"))
    held["new"] = [page.read_text() for page in pages[::4]]
    for number, page in enumerate(pages):
        if number % 4:
            (work / "text").mkdir(exist_ok=True, parents=True)
            (work / "text" / page.name).write_bytes(page.read_bytes())
    before = measure(base, held)
    print(f"before: old {before['old']:.3f}, new {before['new']:.3f} bits per byte", flush=True)
    recipe = work / "recipe.toml"
    recipe.write_text(
        f'[[data.sources]]\nname = "new"\npath = "{work.resolve() / "text"}"\n[model]\nbase = "{base.resolve()}"\n'
        "[pretrain]\ntokens = 163_840\nsequence_length = 256\ncompile = false\n"
        "[sft]\ngenerated = { addition = 10 }\n"
    )
    rows = [("as they are", {}), *((f"all × {t}", dict.fromkeys(["lr_factor"], t)) for t in TIMES if t != 1)]
    rows += [
        (f"{key} × {t}", {key: rate * t})
        for key, rate in RATES_OF_A_BASE.items()
        if key != "router_lr" and not arguments.together
        for t in (0.2, 5.0)
    ]
    for name, rates in rows:
        overrides = [f"pretrain.{key}={value}" for key, value in rates.items()]
        loaded = load_recipe(recipe, [*overrides, f"name={name.replace(' × ', '-').replace(' ', '-')}"])
        run = make(loaded, work / ("own-runs" if arguments.own else "runs"), "pretrain", say=lambda line: None)
        assert run is not None
        after = measure(run / "pretrain", held)
        assert all(map(math.isfinite, after.values()))
        print(f"{name}: old {after['old'] - before['old']:+.3f}, new {after['new'] - before['new']:+.3f}", flush=True)


if __name__ == "__main__":
    main()
