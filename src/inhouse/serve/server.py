"""`inhouse serve`: a model folder behind HTTP until SIGTERM or Ctrl-C."""

import json
import logging
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from starlette.applications import Starlette

from inhouse.api.server import is_loopback, listen, new_server
from inhouse.api.settings import ServeSettings
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.posttrain.opened_model import open_folder
from inhouse.serve.app import create_app

log = logging.getLogger(__name__)


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

    It computes in `dtype` (fp32 or bf16), on the GPU where there is one. `key_variable` is what the request that is
    printed calls the environment variable with the key.

    Running requests get `settings.shutdown_timeout` seconds to end. Raises `ValueError` where the folder is no model
    or the address cannot be had.
    """
    settings = settings or ServeSettings()
    listener = listen(host, port)
    with listener:
        app = open_app(model_folder, name or model_folder.resolve().name, api_key, settings, engine, dtype)
        if api_key is None and not is_loopback(host):
            log.warning("%s can be reached from other machines and there is no API key", host)
        address = f"[{host}]" if ":" in host else host
        url, served = f"http://{address}:{listener.getsockname()[1]}/v1", app.state.served
        print(f"{served.name} is served at {url}; Ctrl-C stops it", file=sys.stderr, flush=True)
        variable = None if api_key is None else key_variable
        request = example_request(url, served.name, served.chat_template is not None, variable)
        print(f"try: {request}", file=sys.stderr, flush=True)
        with suppress(KeyboardInterrupt):  # uvicorn has shut down in order before it lets it through
            new_server(app, settings).run(sockets=[listener])


def example_request(url: str, name: str, is_chat: bool, key_variable: str | None) -> str:
    """A request as a line for the shell."""
    body: dict[str, object] = {"model": name, "max_tokens": 64, "temperature": 0}
    if is_chat:
        body["messages"] = [{"role": "user", "content": "What is 17 + 25?"}]
    else:
        body["prompt"] = "The "
    path = "chat/completions" if is_chat else "completions"
    key = "" if key_variable is None else f' -H "Authorization: Bearer ${key_variable}"'
    data = shlex.quote(json.dumps(body, ensure_ascii=False))
    return f"curl {shlex.quote(f'{url}/{path}')} -H 'Content-Type: application/json'{key} -d {data}"


def open_app(
    model_folder: Path,
    name: str,
    api_key: str | None,
    settings: ServeSettings,
    engine: EngineSettings | None = None,
    dtype: str = "fp32",
) -> Starlette:
    """The application that serves the model in `model_folder`."""
    model, tokenizer, chat_template = open_folder(model_folder, dtype)
    return create_app(
        Engine(model, tokenizer, engine),
        tokenizer,
        name=name,
        chat_template=chat_template,
        api_key=api_key,
        settings=settings,
    )
