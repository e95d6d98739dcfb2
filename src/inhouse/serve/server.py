"""`inhouse serve`: a model folder behind HTTP until SIGTERM or Ctrl-C."""

import ipaddress
import json
import logging
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from inhouse.api.settings import ServeSettings
from inhouse.checkpoint.model_folder import open_model
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.posttrain.chat_template import load_chat_template
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
        if api_key is None and not _is_loopback(host):
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
    tokenizer = Tokenizer.load(model_folder)
    return create_app(
        Engine(open_model(model_folder, dtype), tokenizer, engine),
        tokenizer,
        name=name,
        chat_template=chat_template_of(model_folder),
        api_key=api_key,
        settings=settings,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on {host} port {port} ({error}); choose another host or port") from error


def new_server(app: Starlette, settings: ServeSettings) -> uvicorn.Server:
    """uvicorn, set up so that nobody can hold it for ever; it logs no requests: the metrics count them."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
    return uvicorn.Server(config)


def chat_template_of(folder: Path) -> str | None:
    """The folder's own chat template, or None: a base model was never taught one."""
    config = folder / "tokenizer_config.json"
    has_own = (folder / "chat_template.jinja").is_file() or (
        config.is_file() and isinstance(json.loads(config.read_text(encoding="utf-8")).get("chat_template"), str)
    )
    return load_chat_template(folder) if has_own else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
