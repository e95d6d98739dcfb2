"""`inhouse serve`: a model folder behind HTTP until SIGTERM or Ctrl-C."""

import logging
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
) -> None:
    """Serve the model in `model_folder` under `name` (default: the folder's) until it is told to stop.

    It computes in `dtype` (fp32 or bf16), on the GPU where there is one.

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
        print(
            f"{app.state.served.name} is served at http://{address}:{listener.getsockname()[1]}/v1; Ctrl-C stops it",
            file=sys.stderr,
            flush=True,
        )
        with suppress(KeyboardInterrupt):  # uvicorn has shut down in order before it lets it through
            new_server(app, settings).run(sockets=[listener])


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
