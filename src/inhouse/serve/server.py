"""`inhouse serve`: a model folder behind HTTP until SIGTERM or Ctrl-C."""

import json
import logging
import os
import shlex
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from starlette.applications import Starlette

from inhouse.api.connections import is_loopback
from inhouse.api.middleware import access, keys_of
from inhouse.api.server import listen, new_server
from inhouse.api.settings import ServeSettings
from inhouse.engine.settings import EngineSettings, ServingSettings
from inhouse.posttrain.opened_model import OpenedModel, open_folder
from inhouse.serve.app import create_app
from inhouse.serve.served import Served

log = logging.getLogger(__name__)
_SMALL = 50_000_000  # weights (LOG.md, 2026-11-30)


def serve(
    model_folder: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    settings: ServeSettings | None = None,
    name: str | None = None,
    engine: EngineSettings | None = None,
    dtype: str = "fp32",
    key_variable: str = "API_KEY",
) -> None:
    """Serve the model in `model_folder` under `name` (default: the folder's) until it is told to stop.

    It computes in `dtype` (fp32, bf16, or auto, as its weights are stored), on the GPU where there is one.
    `key_variable` is what the request that is printed calls the environment variable with the key.

    Running requests get `settings.shutdown_timeout` seconds to end. Raises `ValueError` where the folder is no model,
    the address cannot be had or the TLS files are none, and `RuntimeError` where the engine could compute no more.
    """
    settings, engine = settings or ServeSettings(), engine or ServingSettings()
    with listen(host, port) as listener:
        opened = open_folder(model_folder, dtype)
        torch.set_num_threads(threads_for(opened, engine))
        opened.pack(engine)
        if engine.compile and not opened.model.is_in_own_layout:
            print("compiling (up to a minute the first time; --no-compile starts at once)", file=sys.stderr, flush=True)
        new_app = partial(
            create_app, opened.engine(engine), opened.tokenizer, name=name or model_folder.resolve().name,
            chat_template=opened.chat_template, sampling=opened.generation.sampling, api_key=api_key,
            settings=settings, host=host,
        )  # fmt: skip
        served = run_until_stopped(listener, new_app, host, settings, key_in_shell(api_key, key_variable))
    if served.worker.failure is not None:  # a supervisor starts a process that failed again
        raise RuntimeError("the engine can compute no more; the log above says why")


def run_until_stopped(
    listener: socket.socket, new_app: Callable[..., Starlette], host: str, settings: ServeSettings, key: str | None
) -> Served:
    """Answer on `listener` until SIGTERM, Ctrl-C or the engine's end; running requests have time to end.

    `new_app(on_crash=…)` makes the application; `key` is what a shell puts a key in the place of, if there is one.
    """

    def stop() -> None:
        server.should_exit = True

    app = new_app(on_crash=stop)
    server, served = new_server(app, settings), app.state.served
    if key is None and not is_loopback(host):
        log.warning("%s can be reached from other machines and there is no API key", host)
    if settings.access_log:
        access.setLevel(logging.INFO)
        access.addHandler(logging.StreamHandler())
    address, scheme = f"[{host}]" if ":" in host else host, "https" if settings.tls_certificate else "http"
    url = f"{scheme}://{address}:{listener.getsockname()[1]}/v1"
    print(f"{served.name} is served at {url}; Ctrl-C stops it", file=sys.stderr, flush=True)
    request = example_request(url, served.name, served.chat_template is not None, key)
    print(f"try: {request}", file=sys.stderr, flush=True)
    with suppress(KeyboardInterrupt):  # uvicorn has shut down in order before it lets it through
        server.run(sockets=[listener])
    return served


def threads_for(opened: OpenedModel, engine: EngineSettings) -> int:
    """How many compute. A small model's step takes no longer than answering, which then has a core for itself."""
    if isinstance(engine, ServingSettings) and engine.threads is not None:
        return engine.threads
    cores, is_small = torch.get_num_threads(), opened.model.num_weights < _SMALL
    is_told = "OMP_NUM_THREADS" in os.environ
    return max(cores - 1, 1) if is_small and not is_told else cores


def key_in_shell(api_key: str | None, variable: str) -> str | None:
    """What a shell puts the key in `variable` in the place of; the first of several."""
    if api_key is None:
        return None
    return f"${variable}" if len(keys_of(api_key)) == 1 else f'$(echo "${variable}" | grep -m 1 .)'


def example_request(url: str, name: str, is_chat: bool, key: str | None) -> str:
    """A request as a line for the shell."""
    body: dict[str, object] = {"model": name, "max_tokens": 64, "temperature": 0}
    if is_chat:
        body["messages"] = [{"role": "user", "content": "What is 17 + 25?"}]
    else:
        body["prompt"] = "The "
    path = "chat/completions" if is_chat else "completions"
    authorization = "" if key is None else f' -H "Authorization: Bearer {key}"'
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {shlex.quote(f'{url}/{path}')} -H 'Content-Type: application/json'{authorization} -d {data}"
