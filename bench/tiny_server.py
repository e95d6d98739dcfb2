"""A tiny model of random weights behind `inhouse serve`'s own application: for tests and measurements."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from starlette.applications import Starlette

from inhouse.api.server import listen, new_server
from inhouse.api.settings import ServeSettings
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.model.config import ModelConfig
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.serve.app import create_app

NAME = "tiny"
_PATIENCE = 180.0  # seconds


def new_tokenizer(vocab_size: int) -> Tokenizer:
    return Tokenizer.train([Path(json.decoder.__file__).read_text(encoding="utf-8")], vocab_size=vocab_size)


def new_model(tokenizer: Tokenizer, context: int) -> Transformer:
    """Of 40,000 parameters, the same at every call."""
    config = ModelConfig(
        architecture="qwen3", vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=16, intermediate_size=32, max_position=context,
    )  # fmt: skip
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.3, generator=generator))
    return model.eval()


@contextmanager
def running(
    engine: Engine, tokenizer: Tokenizer, settings: ServeSettings, **options: Any
) -> Iterator[tuple[str, Starlette]]:
    """The address of a server in a thread of this process, and its application; `options` of `create_app` by name."""
    given = {"name": NAME, "chat_template": CHAT_TEMPLATE} | options
    app = create_app(engine, tokenizer, settings=settings, **given)
    listener = listen("127.0.0.1", 0)
    server = new_server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    end = time.monotonic() + _PATIENCE
    while not server.started:
        assert time.monotonic() < end, "it did not start in time"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", app
    finally:
        server.should_exit = True
        thread.join(timeout=_PATIENCE)
        assert not thread.is_alive()


@contextmanager
def served(context: int = 8192, max_choices: int = 128) -> Iterator[str]:
    """The address of a server of the tiny model."""
    tokenizer = new_tokenizer(512)
    engine = Engine(new_model(tokenizer, context), tokenizer, EngineSettings(max_sequences=16))
    with running(engine, tokenizer, ServeSettings(shutdown_timeout=1, max_choices=max_choices)) as (url, _):
        yield url
