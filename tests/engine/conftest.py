"""Tiny models of the three architectures with random weights, and the plain way to generate from them."""

from collections.abc import Callable

import pytest
import torch

from inhouse.engine import runner
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer

DENSE = {
    "architecture": "qwen3", "vocab_size": 300, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "max_position": 128,
}  # fmt: skip
MOE = DENSE | {
    "architecture": "glm4_moe", "num_layers": 3, "num_experts": 16, "num_experts_per_token": 2,
    "moe_intermediate_size": 16, "num_shared_experts": 1, "num_dense_layers": 1,
}  # fmt: skip
LOCAL = MOE | {"architecture": "exaone_moe", "num_layers": 5, "sliding_window": 6, "sliding_window_pattern": 4}
SHORT = LOCAL | {"num_layers": 3, "sliding_window_pattern": 2}  # the same kinds of blocks, once each
CONFIGS = {"dense": DENSE, "moe": MOE, "local": LOCAL, "short": SHORT}


class ByteTokenizer:
    """Token i is the byte i; 256 and 257 end a document and a turn."""

    end_of_document, end_of_turn = 256, 257
    skipped = frozenset((256, 257))

    def decode_bytes(self, ids: list[int]) -> bytes:
        return bytes(i for i in ids if i < 256)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


def new_model(kind: str, **changes: object) -> Transformer:
    model = Transformer(ModelConfig(**CONFIGS[kind] | changes))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.3, generator=generator))
    return model


@pytest.fixture(scope="session")
def models() -> dict[str, Transformer]:
    return {kind: new_model(kind) for kind in CONFIGS}


@pytest.fixture(params=["plain", "decoder"])
def new_engine(
    models: dict[str, Transformer], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Engine]:
    """`new_engine("moe", num_pages=…, max_sequences=…)`; also with the code for compiling, uncompiled."""
    if request.param == "decoder":
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        monkeypatch.setattr(runner, "can_compile", lambda model, trains: True)

    def build(kind: str = "dense", num_pages: int | None = None, **settings: object) -> Engine:
        config = models[kind].config
        settings["compile"] = request.param == "decoder"
        if num_pages is not None:
            per_token = config.num_layers * 2 * config.num_kv_heads * config.head_dim * 4
            settings["cache_gib"] = num_pages * settings.get("page_size", 16) * per_token / 2**30
        built = Engine(models[kind], ByteTokenizer(), EngineSettings(**settings))
        assert num_pages is None or built.num_pages == num_pages
        return built

    return build


@pytest.fixture(scope="session")
def prompts() -> list[list[int]]:
    """Lengths around the borders of pages and windows."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 300, (n,), generator=generator).tolist() for n in (1, 3, 15, 16, 17, 31, 40)]


@pytest.fixture(scope="session")
def naive(models: dict[str, Transformer]) -> Callable[[str, list[int], int], list[int]]:
    """`naive(kind, prompt, n)`: n greedy tokens, each from a full forward pass over all before it."""

    @torch.no_grad()
    def run(kind: str, prompt: list[int], num_tokens: int) -> list[int]:
        tokens = list(prompt)
        for _ in range(num_tokens):
            hidden = models[kind](torch.tensor([tokens])).hidden_BTD[:, -1]
            tokens.append(int(models[kind].logits(hidden).argmax()))
        return tokens[len(prompt) :]

    return run
