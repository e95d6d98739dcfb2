"""Does llama.cpp say what the model says? Greedy continuations of the exported GGUF files, side by side.

    .venv/bin/python bench/gguf_parity.py [--model FOLDER ...] [--write]

For each model: 8 prompts, 64 tokens. The F32 file must continue exactly as the model does in fp32 (llama.cpp's
key-value cache is set to F32 for it); for F16, BF16 and Q8_0 the share of tokens before the first difference is
printed. Without --model: a dense, an MoE and a sliding-window model with random weights, large enough to make each
choice depend on the whole context, and a tokenizer trained on the standard library. Needs llama-cpp-python, which
compiles from source: pip install 'inhouse[bench]'.
"""

import argparse
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from inhouse.checkpoint.model_folder import load_model, save_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.export.gguf import write_gguf
from inhouse.export.settings import PlainType
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer

NUM_TOKENS = 64
PROMPTS = [
    "def read_lines(path):\n    ",
    "import os\nimport sys\n\n\nclass Reader:\n    def __init__(self, ",
    "What does 17 + 58 make?",
    "The quick brown fox jumps over the lazy dog, and then",
    "    for i in range(1234567890):\n        if i % 2 == 0:\n\n\n            ",
    "naïve café – Größe, 東京 и Москва 🙂\t\t",
    "raise ValueError(f\"{name!r} isn't one of {', '.join(known)}\")\n",
    "<!-- x = [1, 2, 3]; y = {'a': None} -->",
]
SHAPE: dict[str, Any] = {
    "hidden_size": 256, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 64,
    "intermediate_size": 512, "max_position": 256,
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    "num_experts": 16, "num_experts_per_token": 4, "moe_intermediate_size": 128, "num_shared_experts": 1,
    "num_dense_layers": 1, "routed_scaling_factor": 1.5,
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"architecture": "qwen3"},
    "glm4_moe": {"architecture": "glm4_moe", **EXPERTS},
    # as GLM-4.5 uses what the architecture allows
    "glm4_moe-biased": {"architecture": "glm4_moe", "attention_bias": True, "partial_rotary_factor": 0.5, **EXPERTS},
    "glm4_moe-plain": {"architecture": "glm4_moe", "qk_norm": False, "partial_rotary_factor": 0.5, **EXPERTS},
    "exaone_moe": {"architecture": "exaone_moe", **EXPERTS, "sliding_window": 32, "sliding_window_pattern": 2},
}
TITLE = f"""# GGUF files through llama.cpp

Greedy continuations of {NUM_TOKENS} tokens after {len(PROMPTS)} prompts against the model in fp32."""
WEIGHTS: tuple[PlainType, ...] = ("F32", "F16", "BF16", "Q8_0")


class Result(NamedTuple):
    """`whole`: continuations equal to the end; `equal`: share of tokens before the first difference.

    `tokenized`: prompts that llama.cpp cuts into the same tokens; `logit_difference`: largest, after the first prompt.
    """

    model: str
    weights: str
    whole: int
    equal: float
    tokenized: int
    logit_difference: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="model folders; default: two random models")
    parser.add_argument("--write", action="store_true", help="write bench/results/gguf.md")
    arguments = parser.parse_args()
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        sys.exit("llama-cpp-python is not installed; it compiles from source: pip install 'inhouse[bench]'")
    with tempfile.TemporaryDirectory() as scratch:
        folders = arguments.model or list(random_models(Path(scratch)))
        results = [result for folder in folders for result in compare(folder, Path(scratch))]
    text = table(results)
    print(text)
    if arguments.write:
        command = " ".join([".venv/bin/python", *sys.argv])
        Path("bench/results/gguf.md").write_text(f"{TITLE}\n\n    {command}\n\n{text}\n", encoding="utf-8")
    if any(result.whole < len(PROMPTS) for result in results if result.weights == "F32"):
        sys.exit("an F32 file continued differently")


def compare(folder: Path, scratch: Path) -> Iterator[Result]:
    model, tokenizer = load_model(folder), Tokenizer.load(folder)
    prompts = [tokenizer.encode(prompt) for prompt in PROMPTS]
    expected = [continue_greedily(model, prompt) for prompt in prompts]
    logits = last_logits(model, prompts[0])
    for weights in WEIGHTS:
        path = scratch / f"{folder.name}-{weights}.gguf"
        write_gguf(folder, path, weights, folder.name)
        llama = open_in_llama(path, exact=weights == "F32")
        tokenized = [llama.tokenize(prompt.encode(), add_bos=False, special=False) for prompt in PROMPTS]
        got = [continue_in_llama(llama, prompt) for prompt in prompts]
        llama.reset()
        llama.eval(prompts[0])
        equal = [equal_at_start(left, right) for left, right in zip(got, expected, strict=True)]
        yield Result(
            model=folder.name,
            weights=weights,
            whole=sum(count == NUM_TOKENS for count in equal),
            equal=sum(equal) / (NUM_TOKENS * len(PROMPTS)),
            tokenized=sum(left == right for left, right in zip(tokenized, prompts, strict=True)),
            logit_difference=float((torch.tensor(llama.scores[len(prompts[0]) - 1]) - logits).abs().max()),
        )
        path.unlink()


def open_in_llama(path: Path, exact: bool) -> Any:
    """The file with llama.cpp's plain kernels: its AMX ones end in a segmentation fault on some virtual machines.

    (0.3.36, any Q8_0 file, llama.cpp's own included.) They come with repacked weights, which Llama() always asks for.
    """
    import llama_cpp
    from llama_cpp import llama_cpp as bindings

    defaults = bindings.llama_model_default_params

    def without_repacking() -> Any:
        params = defaults()
        params.use_extra_bufts = False
        return params

    cache = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32} if exact else {}
    options = {"n_ctx": 256, "n_threads": 1, "n_threads_batch": 1, "logits_all": True, "verbose": False}
    options["yarn_attn_factor"] = -1.0  # the file's, which llama-cpp-python's own default overrides
    with mock.patch.object(bindings, "llama_model_default_params", without_repacking):
        return llama_cpp.Llama(str(path), **options, **cache)


def continue_in_llama(llama: Any, prompt: list[int]) -> list[int]:
    llama.reset()
    tokens = llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0)
    return [token for token, _ in zip(tokens, range(NUM_TOKENS), strict=False)]


def continue_greedily(model: Transformer, prompt: list[int]) -> list[int]:
    """The plainest generation there is: the whole text again for every token."""
    tokens = list(prompt)
    for _ in range(NUM_TOKENS):
        tokens.append(int(last_logits(model, tokens).argmax()))
    return tokens[len(prompt) :]


@torch.inference_mode()
def last_logits(model: Transformer, tokens: list[int]) -> torch.Tensor:
    return model.logits(model(torch.tensor([tokens])).hidden_BTD[0, -1])


def random_models(scratch: Path) -> Iterator[Path]:
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    tokenizer = Tokenizer.train(texts, 2048)
    for name, shape in SHAPES.items():
        model = Transformer(ModelConfig(vocab_size=2048, **SHAPE, **shape))
        model.initialize(0)
        torch.manual_seed(0)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(torch.randn_like(tensor) * 0.1)
        save_model(model, scratch / f"random-{name}")
        tokenizer.save(scratch / f"random-{name}")
        yield scratch / f"random-{name}"


def table(results: list[Result]) -> str:
    lines = [
        "| model | file | equal to the end | tokens before a difference | tokenized alike | largest logit difference |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        lines.append(
            f"| {result.model} | {result.weights} | {result.whole} of {len(PROMPTS)} | {result.equal:.1%} "
            f"| {result.tokenized} of {len(PROMPTS)} | {result.logit_difference:.1e} |"
        )
    return "\n".join(lines)


def equal_at_start(left: list[int], right: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=True)) if a != b), len(left))


if __name__ == "__main__":
    main()
