"""Tokens a second of generation: the engine against transformers and llama.cpp, in turns, in one run.

    .venv/bin/python bench/decode.py [--size preview 0.6B] [--against transformers F16 Q8_0] [--write]

Dense models with random weights of two shapes: the preview's, and Qwen3-0.6B's with a small vocabulary, which fills
the memory's bandwidth. 1, 8 and 32 prompts of 64 random tokens, then greedy tokens. The engine has the settings that
`inhouse serve` has by default and computes in bf16, as transformers does; llama.cpp reads its own file of the same
model (F16: 16-bit floats, Q8_0: 8-bit integers in blocks), all streams in one context with a unified cache. Against
Q8_0 the engine has weights of 8 bits too (`--weights int8`).
A ratio is that of a round; the order of a round's sides changes. Needs llama-cpp-python: pip install 'inhouse[bench]'.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from inhouse.checkpoint.model_folder import save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import SamplingParams
from inhouse.engine.settings import ServingSettings
from inhouse.export.gguf import write_gguf
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.opened_model import open_folder
from inhouse.serve.server import threads_for

NUM_PROMPT, VOCAB = 64, 4096
STREAMS = (1, 8, 32)
SHAPES: dict[str, dict[str, Any]] = {
    "preview": {
        "hidden_size": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64,
        "intermediate_size": 768, "max_position": 1024,
    },
    "0.6B": {
        "hidden_size": 1024, "num_layers": 28, "num_heads": 16, "num_kv_heads": 8, "head_dim": 128,
        "intermediate_size": 3072, "max_position": 4096,
    },
}  # fmt: skip
NUM_TOKENS = {"preview": 128, "0.6B": 32}
RESULTS = Path(__file__).with_name("results")
OURS = {"transformers": "auto", "F16": "auto", "Q8_0": "int8"}  # our weights against whom
Generate = Callable[[np.ndarray, int], None]  # prompts (streams, NUM_PROMPT), and how many tokens each gets


def new_folder(size: str, vocab_size: int, folder: Path) -> None:
    """A model whose every part matters to the next token, in bf16, with a tokenizer of some language."""
    model = Transformer(ModelConfig(architecture="qwen3", vocab_size=vocab_size, **SHAPES[size]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                deviation = 1.0 if name.startswith("embed") else weight.shape[-1] ** -0.5
                weight.normal_(0.0, deviation, generator=generator)
    save_model(model, folder, torch.bfloat16)
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    Tokenizer.train(texts, min(vocab_size, 4096)).save(folder)


def open_inhouse(folder: Path, weights: Any) -> Generate:
    opened, cores = open_folder(folder, "bf16"), torch.get_num_threads()
    settings = ServingSettings(cache_gib=2, weights=weights)
    own = threads_for(opened, settings)
    torch.set_num_threads(own)
    engine = opened.engine(settings)
    torch.set_num_threads(cores)

    def generate(prompts: np.ndarray, num_tokens: int) -> None:
        torch.set_num_threads(own)
        engine.generate(prompts.tolist(), SamplingParams(max_tokens=num_tokens, temperature=0, ignore_eos=True))
        engine.forget_prefixes()
        torch.set_num_threads(cores)

    return generate


def open_transformers(folder: Path) -> Generate:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.generation_config.eos_token_id = None

    def generate(prompts: np.ndarray, num_tokens: int) -> None:
        ids = torch.from_numpy(prompts)
        mask = torch.ones_like(ids)
        model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=num_tokens, pad_token_id=0)

    return generate


def open_llama(folder: Path, weights: Any) -> Generate:
    """llama.cpp by its own functions: its Python class has one stream."""
    import llama_cpp as llama

    path = folder.with_name(f"{folder.name}-{weights}.gguf")
    write_gguf(folder, path, weights, folder.name)
    quiet = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = 32 * 256, 2048, 512, 32
    params.n_threads = params.n_threads_batch = torch.get_num_threads()
    params.kv_unified = True
    context = llama.llama_init_from_model(model, params)
    batch = llama.llama_batch_init(2048, 0, 1)
    vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def decode(tokens: np.ndarray, start: int) -> np.ndarray:
        """The likeliest token after these of every stream."""
        streams, length = tokens.shape
        batch.n_tokens = streams * length
        for i, (stream, place) in enumerate(itertools.product(range(streams), range(length))):
            batch.token[i], batch.pos[i] = int(tokens[stream, place]), start + place
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, stream, place == length - 1
        assert llama.llama_decode(context, batch) == 0
        last = range(length - 1, streams * length, length)
        rows = [np.ctypeslib.as_array(llama.llama_get_logits_ith(context, i), (vocab_size,)) for i in last]
        return np.array([row.argmax() for row in rows])[:, None]

    def generate(prompts: np.ndarray, num_tokens: int) -> None:
        assert quiet  # llama.cpp calls it, so it must live on
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        newest = decode(prompts, 0)
        for place in range(num_tokens - 1):
            newest = decode(newest, prompts.shape[1] + place)

    return generate


class Speeds(NamedTuple):
    """Tokens a second of a round."""

    prompt: float
    decode: float


def measure(generate: Generate, prompts: tuple[np.ndarray, np.ndarray], num_tokens: int) -> Speeds:
    seconds = []
    for each, wanted in zip(prompts, (1, num_tokens + 1), strict=True):
        start = time.perf_counter()
        generate(each, wanted)
        seconds.append(time.perf_counter() - start)
    streams = len(prompts[0])
    return Speeds(streams * NUM_PROMPT / seconds[0], streams * num_tokens / (seconds[1] - seconds[0]))


def compare(sides: dict[str, Generate], size: str, streams: int, rounds: int) -> list[str]:
    """Each of the others against that of ours which has weights of its kind, as rows of the table."""
    random = np.random.default_rng(0)
    results: dict[str, list[Speeds]] = {name: [] for name in sides}
    for i in range(rounds + 1):  # the first warms up
        prompts = tuple(random.integers(5, 4000, (streams, NUM_PROMPT)) for _ in range(2))
        for name in list(sides)[:: 1 if i % 2 else -1]:
            results[name].append(measure(sides[name], prompts, NUM_TOKENS[size]))
    rows = []
    for name in [name for name in sides if name not in OURS.values()]:
        ours = results[OURS[name]]
        cells = []
        for kind in Speeds._fields:
            pairs = [(getattr(a, kind), getattr(b, kind)) for a, b in zip(ours[1:], results[name][1:], strict=True)]
            ratios = [a / b for a, b in pairs]
            speeds = [statistics.median(column) for column in zip(*pairs, strict=True)]
            cells += [f"{speeds[0]:.0f}", f"{speeds[1]:.0f}"]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        rows.append(f"| {size} | {streams} | {name} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--streams", type=int, nargs="+", default=list(STREAMS))
    parser.add_argument("--against", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--vocab", type=int, default=VOCAB)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--write", action="store_true", help="write results/decode.md, or decode-VOCAB.md of another vocabulary"
    )
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    lines = [
        "# Generation against transformers and llama.cpp",
        "",
        f"`.venv/bin/python {' '.join(sys.argv)}` on {os.cpu_count()} cores ({platform.machine()}), torch "
        f"{torch.__version__}, transformers {transformers.__version__}, vocabulary {args.vocab:,}. bf16, against "
        f"Q8_0 with int8 weights; random weights, default settings; {NUM_PROMPT} prompt tokens a stream, greedy; "
        f"tokens/s, and the ratio: median (least to most) of {args.rounds} rounds.",
        "",
        "| size | streams | against | prompts: inhouse | theirs | ratio | decoding: inhouse | theirs | ratio |",
        "| --- | ---: | --- | ---: | ---: | --- | ---: | ---: | --- |",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for size in args.size:
            folder = Path(temporary) / size
            new_folder(size, args.vocab, folder)
            sides = {weights: open_inhouse(folder, weights) for weights in {OURS[name]: None for name in args.against}}
            for name in args.against:
                sides[name] = open_transformers(folder) if name == "transformers" else open_llama(folder, name)
            for streams in args.streams:
                rows = compare(sides, size, streams, args.rounds)
                print("\n".join(rows), flush=True)
                lines += rows
    if args.write:
        name = "decode.md" if args.vocab == VOCAB else f"decode-{args.vocab}.md"
        (RESULTS / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
