"""A tiny model of random weights behind `inhouse serve`'s own application, for what is measured of its API."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

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


def new_engine(context: int) -> tuple[Engine, Tokenizer]:
    """A model of 40,000 parameters, the same at every call."""
    tokenizer = Tokenizer.train([Path(json.decoder.__file__).read_text(encoding="utf-8")], vocab_size=512)
    config = ModelConfig(
        architecture="qwen3", vocab_size=tokenizer.vocab_size, hidden_size=32, num_layers=2, num_heads=2,
        num_kv_heads=1, head_dim=16, intermediate_size=32, max_position=context,
    )  # fmt: skip
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, 0.3, generator=generator))
    return Engine(model.eval(), tokenizer, EngineSettings(max_sequences=16)), tokenizer


@contextmanager
def served(context: int = 8192, max_choices: int = 128) -> Iterator[str]:
    """The address of the server, which runs in a thread of this process."""
    engine, tokenizer = new_engine(context)
    settings = ServeSettings(shutdown_timeout=1, max_choices=max_choices)
    app = create_app(engine, tokenizer, name=NAME, chat_template=CHAT_TEMPLATE, settings=settings)
    listener = listen("127.0.0.1", 0)
    server = new_server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
