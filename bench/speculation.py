"""What drafts cost and bring: the engine with and without, in turns, in one process.

    .venv/bin/python bench/speculation.py [--size preview 0.6B] [--head RUN] [--write]

The models of bench/decode.py, whose random weights repeat nothing, with the settings of `inhouse serve`. So the first
table has bounds: tokens a second of decoding as a multiple of those without, where drafts of full length are all taken
for right, whatever was drawn, where all are taken for wrong and never given up, and with the lookup as it is, on text
that holds nothing to find. The second has the lookup alone, on the sources of Python's library: tokens a step of an
answer that is known. (Where a model writes the same, the same drafts are right.)

With `--head`, instead of both, the layer of a trained model that predicts further ahead, on the beginnings of the
run's held-out texts: the part of its drafts that was right, tokens a pass of the model, and the processor's time
without drafts as a multiple of that with them, in turns. The results go into speculation-mtp.md. Such a run, small:

    inhouse make preview-moe --until pretrain --set model.num_nextn_predict_layers=1 \\
        --set pretrain.mtp_weight=0.3 --set pretrain.tokens=1000000
"""

import argparse
import itertools
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from decode import NUM_PROMPT, SHAPES, new_folder
from inhouse.common.model_paths import find_model
from inhouse.data.documents import read_documents
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.cache.kv_cache import KVCache
from inhouse.engine.drafts.pace import Pace
from inhouse.engine.drafts.prompt_lookup import PromptLookup
from inhouse.engine.engine import Engine
from inhouse.engine.request import SamplingParams
from inhouse.engine.scheduler import Scheduled, Sequence
from inhouse.engine.settings import ServingSettings
from inhouse.posttrain.opened_model import open_folder
from inhouse.serve.server import threads_for

VOCAB = 4096
STREAMS = {"preview": (1, 4, 8), "0.6B": (1, 4)}
NUM_TOKENS = {"preview": 64, "0.6B": 10}
NUM_HEAD = 96
RESULTS = Path(__file__).with_name("results") / "speculation.md"
HEAD_RESULTS = RESULTS.with_name("speculation-mtp.md")
DRAFT = list(range(100, 200))


@contextmanager
def every_draft(is_right: bool) -> Iterator[None]:
    """Drafts of full length at every step, all of which are taken for right or for wrong, whatever was drawn."""
    with (
        patch.object(PromptLookup, "propose", lambda self, tokens, most: DRAFT[:most]),
        patch("inhouse.engine.engine.num_agreed", lambda draft, tokens: len(draft) if is_right else 0),
        patch.multiple(Pace, is_waiting=lambda self: False, observe=lambda self, proposed, accepted: None),
        patch("inhouse.engine.drafts.pace._FIRST", 100),
    ):
        yield


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "none": nullcontext,
    "right": partial(every_draft, True),
    "wrong": partial(every_draft, False),
    "lookup": nullcontext,
}


def compare(engine: Engine, size: str, streams: int, rounds: int) -> str:
    """A row of the table."""
    speculator = engine._speculator
    params = SamplingParams(max_tokens=NUM_TOKENS[size], temperature=0, ignore_eos=True)
    prompts = np.random.default_rng(0).integers(5, 4000, (streams, NUM_PROMPT)).tolist()
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for i in range(rounds + 1):  # the first warms up
        for name in (list(seconds) * 2)[i % 4 :][: len(seconds)]:
            engine._speculator = None if name == "none" else speculator
            with WAYS[name]():
                seconds[name].append(timed(engine, prompts, params))
    engine._speculator = speculator
    cells = []
    for name in list(WAYS)[1:]:
        ratios = [a / b for a, b in zip(seconds["none"][1:], seconds[name][1:], strict=True)]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return f"| {size} | {streams} | {' | '.join(cells)} |"


def timed(engine: Engine, prompts: list[list[int]], params: SamplingParams) -> float:
    """Seconds of the processor's time for decoding: a shared machine gives unequal parts of it."""
    engine.forget_prefixes()
    engine.generate(prompts, params.model_copy(update={"max_tokens": 1}))  # their keys are cached now
    start = time.process_time()
    engine.generate(prompts, params)
    return time.process_time() - start


def follow(prompt: list[int], answer: list[int], most: int) -> tuple[float, float]:
    """Tokens a step, and drafted tokens a step, of an answer that is known."""
    lookup, pace, tokens, drafted, steps = PromptLookup(), Pace(), prompt + answer[:1], 0, 0
    whole = prompt + answer
    while len(tokens) < len(whole):
        most_now = min(most, pace.most, len(whole) - len(tokens) - 1)
        draft = [] if pace.is_waiting() else lookup.propose(tokens, most_now)
        wrong = (i for i, token in enumerate(draft) if token != whole[len(tokens) + i])
        num_right = next(wrong, len(draft))
        if draft:
            pace.observe(len(draft), num_right)
        tokens, drafted, steps = whole[: len(tokens) + num_right + 1], drafted + len(draft), steps + 1
    return (len(answer) - 1) / steps, drafted / steps


def texts(tokenizer: Tokenizer) -> dict[str, list[tuple[list[int], list[int]]]]:
    """Prompts and answers of a few kinds."""
    files = [
        text
        for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        if 4000 < len(text := path.read_text(encoding="utf-8")) < 12000
    ]
    encoded = [tokenizer.encode(text) for text in files]
    renamed = [tokenizer.encode(text.replace("self", "this").replace("return", "yield")) for text in files]
    random = np.random.default_rng(0).integers(5, 4000, (20, 1000)).tolist()
    return {
        "the prompt's code with names changed": list(zip(encoded, renamed, strict=True)),
        "code that follows other code": list(itertools.pairwise(encoded)),
        "random tokens": [(each[:500], each[500:]) for each in random],
    }


def head_table(run: Path, rounds: int) -> list[str]:
    """Lines on the layer of the model in `run`."""
    settings = ServingSettings(cache_gib=0.5, max_sequences=64, speculation="mtp")
    drafting, plain = open_folder(find_model(run), "bf16"), open_folder(find_model(run), "bf16")
    config, dtype = drafting.model.config, drafting.model.dtype
    torch.set_num_threads(threads_for(drafting, settings))
    without = plain.engine(settings.model_copy(update={"speculation": "none"}))
    texts = [drafting.tokenizer.encode(each.text)[:NUM_PROMPT] for each in read_documents(run / "data", "heldout")]
    texts = [each for each in texts if len(each) == NUM_PROMPT]
    sizes = [KVCache.bytes_per_token(config, dtype, is_ahead) for is_ahead in (False, True)]
    lines = [
        f"{config.count_parameters().total / 1e6:.1f} M parameters, {config.num_layers} layers of {config.hidden_size} "
        f"and the one that drafts. A token takes {sizes[1]:,} bytes of cache, {sizes[0]:,} without drafts.",
        "",
        "| drafts of at most | temperature | streams | right | tokens a pass | time without / with |",
        "| ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for most in (1, 2, 4):
        engine = drafting.engine(settings.model_copy(update={"draft_tokens": most}))
        for temperature, streams in itertools.product((0.0, 1.0), (1, 4, 8, 32)):
            params = SamplingParams(max_tokens=NUM_HEAD, temperature=temperature, seed=1, ignore_eos=True)
            prompts = list(itertools.islice(itertools.cycle(texts), streams))
            row = f"| {most} | {temperature:g} | {streams} | {compare_head(engine, without, prompts, params, rounds)} |"
            print(row, flush=True)
            lines.append(row)
    return lines


def compare_head(engine: Engine, without: Engine, prompts: list[list[int]], params: SamplingParams, rounds: int) -> str:
    """The last three cells of a row."""
    drafted, accepted, run = engine.num_drafted, engine.num_accepted, engine._runner.run
    ratios, num_passes = [], 0  # of one sequence

    def counted(scheduled: list[Scheduled]) -> tuple[list[Sequence], torch.Tensor, torch.Tensor]:
        nonlocal num_passes
        num_passes += sum(item.is_decoding for item in scheduled)
        return run(scheduled)

    with patch.object(engine._runner, "run", counted):
        for i in range(rounds + 1):  # the first warms up
            seconds = {
                each: timed(each, prompts, params) for each in ((engine, without) if i % 2 else (without, engine))
            }
            ratios.append(seconds[without] / seconds[engine])
    drafted, accepted = engine.num_drafted - drafted, engine.num_accepted - accepted
    tokens = len(prompts) * (rounds + 1) * (params.max_tokens - 1) / num_passes
    right = f"{accepted / drafted:.0%}" if drafted else "none drafted"
    ratios = ratios[1:]
    return f"{right} | {tokens:.2f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--head", type=Path, help="a run whose model predicts further ahead: it alone is measured")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    if args.head is not None:
        lines = [
            "# Drafts by the model's own layer",
            "",
            f"`.venv/bin/python {' '.join(sys.argv)}` on {os.cpu_count()} cores ({platform.machine()}), torch "
            f"{torch.__version__}. bf16, prompts of {NUM_PROMPT} tokens, answers of {NUM_HEAD}. Tokens a pass: of a "
            "stream. The processor's time of decoding without drafts, as a multiple of that with them: median "
            f"(least to most) of {args.rounds} rounds.",
            "",
            *head_table(args.head, args.rounds),
        ]
        if args.write:
            HEAD_RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return
    lines = [
        "# Drafts",
        "",
        f"`.venv/bin/python {' '.join(sys.argv)}` on {os.cpu_count()} cores ({platform.machine()}), torch "
        f"{torch.__version__}. bf16, random weights, vocabulary {VOCAB:,}, greedy. Tokens a second of the processor's "
        f"time as a multiple of those without drafts: median (least to most) of {args.rounds} rounds.",
        "",
        "| size | streams | all drafts right | all drafts wrong | the lookup, nothing to find |",
        "| --- | ---: | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for size in args.size:
            folder = Path(temporary) / size
            new_folder(size, VOCAB, folder)
            opened, settings = open_folder(folder, "bf16"), ServingSettings(cache_gib=0.5, max_sequences=16)
            torch.set_num_threads(threads_for(opened, settings))
            engine = opened.engine(settings.model_copy(update={"speculation": "ngram"}))
            for streams in STREAMS[size]:
                lines.append(compare(engine, size, streams, args.rounds))
                print(lines[-1], flush=True)
            tokenizer = opened.tokenizer
    lines += ["", "| text | tokens a step | drafted a step |", "| --- | ---: | ---: |"]
    for name, pairs in texts(tokenizer).items():
        found = [follow(prompt, answer, settings.draft_tokens) for prompt, answer in pairs]
        means = " | ".join(f"{statistics.mean(column):.2f}" for column in zip(*found, strict=True))
        lines.append(f"| {name} | {means} |")
    print("\n".join(lines[-5:]), flush=True)
    if args.write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
