"""A tiny model behind a real uvicorn on a free loopback port."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import httpx
import pytest
from bench import tiny_server
from openai import OpenAI
from pydantic import TypeAdapter
from starlette.applications import Starlette

from inhouse.api.settings import ServeSettings
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.model.transformer import Transformer
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
    with (
        tiny_server.running(engine, tokenizer, settings, **options) as (url, app),
        httpx.Client(base_url=url, timeout=180) as http,
    ):
        yield Server(url, app.state.served, http, app)


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
    return tiny_server.new_tokenizer(384)


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer) -> Transformer:
    return tiny_server.new_model(tokenizer, CONTEXT)


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
    with run_server(
        Engine(tiny_server.new_model(tokenizer, 2048), tokenizer, EngineSettings(max_sequences=8))
    ) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def long_client(long_server: Server) -> Iterator[OpenAI]:
    with long_server.client() as client:
        yield client


def typed_events(server: Server, path: str, body: dict, kind: TypeAdapter) -> list[dict]:
    """Of a stream of typed events, each checked against the client's type, its name against what it carries."""
    answer = server.post(path, body | {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    found = []
    for part in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        kind.validate_python(found[-1])
    return found
