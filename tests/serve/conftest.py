"""A tiny model behind a real uvicorn on a free loopback port."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import torch
from openai import OpenAI
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
from inhouse.serve.served import Served

CONTEXT = 128


class Server(NamedTuple):
    """A running server: its address, and its inside for tests that look there."""

    url: str
    served: Served
    http: httpx.Client  # one for all: making one costs more than a request
    served_app: Starlette

    def client(self, **options: object) -> OpenAI:
        return OpenAI(
            base_url=f"{self.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True, **options
        )

    def post(self, path: str, body: object, **options: object) -> httpx.Response:
        return self.http.post(path, json=body, **options)

    def get(self, path: str, **options: object) -> httpx.Response:
        return self.http.get(path, **options)


@contextmanager
def running(engine: object, tokenizer: Tokenizer, settings: ServeSettings, **options: object) -> Iterator[Server]:
    app = create_app(
        engine, tokenizer, settings=settings, **({"name": "tiny", "chat_template": CHAT_TEMPLATE} | options)
    )
    listener = listen("127.0.0.1", 0)
    server = new_server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=180) as http:
            yield Server(url, app.state.served, http, app)
    finally:
        server.should_exit = True
        thread.join(timeout=180)
        assert not thread.is_alive()


def wait_until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not become true in time"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """`eventually(condition)` waits for a condition that other threads bring about."""
    return wait_until


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([Path(json.decoder.__file__).read_text(encoding="utf-8")], vocab_size=384)


def new_model(tokenizer: Tokenizer, context: int) -> Transformer:
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


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    return new_model(tokenizer, CONTEXT)


@pytest.fixture(scope="session")
def new_engine(model: Transformer, tokenizer: Tokenizer) -> Callable[..., Engine]:
    """`new_engine(places=8)`"""
    return lambda places=8: Engine(model, tokenizer, EngineSettings(max_sequences=places))


@pytest.fixture(scope="session")
def run_server(
    new_engine: Callable[..., Engine], tokenizer: Tokenizer
) -> Callable[..., AbstractContextManager[Server]]:
    """`with run_server(engine=…, api_key=…, max_queue=…) as server`: settings and options of `create_app` by name."""

    def run(engine: object = None, **options: object) -> AbstractContextManager[Server]:
        given = {name: options.pop(name) for name in list(options) if name in ServeSettings.model_fields}
        settings = ServeSettings(**({"shutdown_timeout": 1} | given))
        return running(engine or new_engine(), options.pop("tokenizer", tokenizer), settings, **options)

    return run


@pytest.fixture(scope="session")
def server(run_server: Callable[..., AbstractContextManager[Server]]) -> Iterator[Server]:
    with run_server() as server:
        yield server


@pytest.fixture(scope="session")
def long_server(run_server: Callable[..., AbstractContextManager[Server]], tokenizer: Tokenizer) -> Iterator[Server]:
    """Its context has room for tools."""
    with run_server(Engine(new_model(tokenizer, 2048), tokenizer, EngineSettings(max_sequences=8))) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client
