"""`inhouse gateway serve`: the gateway behind HTTP until SIGTERM or Ctrl-C."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from time import time

from inhouse.api.connections import is_loopback
from inhouse.api.middleware import access
from inhouse.api.server import listen, new_server
from inhouse.gateway.app import create_app
from inhouse.gateway.config.check import check_start, unreachable
from inhouse.gateway.config.config import ServerSettings
from inhouse.gateway.config.read import ConfigFile, open_config
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.opening import opened
from inhouse.gateway.outside.logs import write_json
from inhouse.gateway.outside.telemetry import telemetry

log = logging.getLogger(__name__)
_COLLECT_AFTER = 20_000  # objects: nearly all of a call's are freed by their counts


def serve(path: Path, host: str | None = None, port: int | None = None, hosts: tuple[str, ...] = ()) -> None:
    """Serve the gateway that a file configures; `host` and `port` go before the file's, `hosts` beside its
    `allowed_hosts`.

    Calls under way get `shutdown_timeout` seconds to end, and what they used is booked. Raises `ValueError`, a line for
    everything that does not fit, before anything listens.
    """
    file = open_config(path)
    given = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    allowed = (*file.config.server.allowed_hosts, *hosts)
    server = file.config.server.model_copy(update=given | {"allowed_hosts": allowed})
    file = file._replace(config=file.config.model_copy(update={"server": server}))
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        runner.run(_serve(file))


async def _serve(file: ConfigFile) -> None:
    config, settings = file.config, file.config.server
    with telemetry(config) if settings.telemetry else nullcontext() as observe:
        async with opened(config, lambda cut: check_start(file, time(), cut)) as gateway:
            gateway.observers += [observe] if observe else []
            await _listen(file, gateway)


async def _listen(file: ConfigFile, gateway: Gateway) -> None:
    """Until a signal ends it."""
    settings = file.config.server
    await _reach(file, gateway)
    with listen(settings.host, settings.port) as listener:
        server = new_server(create_app(gateway), settings)
        _log(settings)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"{'https' if settings.tls_certificate else 'http'}://{host}:{listener.getsockname()[1]}/v1"
        if (key := await gateway.keys.create_admin("start")) is not None:
            _say(f"the administrator's key, which is shown this once: {key}")
        if not is_loopback(settings.host) and not settings.tls_certificate:
            log.warning("%s can be reached from other machines, and keys are sent in the clear", settings.host)
        _say(f"the gateway is at {url}; Ctrl-C stops it")
        gc.collect()
        gc.freeze()  # the modules' and settings' objects stay; looking through all of them held up calls
        gc.set_threshold(_COLLECT_AFTER, 10, 10)
        # uvicorn has handlers of its own while it serves, and raises what came again behind that: it is done then
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        await server.serve(sockets=[listener])


def _log(settings: ServerSettings) -> None:
    if settings.log_format == "json":
        write_json()
    if settings.access_log:
        access.setLevel(logging.INFO)
        if settings.log_format == "text":
            access.addHandler(logging.StreamHandler())


async def _reach(file: ConfigFile, gateway: Gateway) -> None:
    """Says which providers cannot be reached, or raises `ValueError` with it where the configuration wants that."""
    ended = {name for name in file.config.providers() if gateway.terms.why_ended(name, gateway.now()) is not None}
    if lines := await unreachable(file, ended):
        if file.config.server.unreachable == "refuse":
            raise ValueError("\n".join(lines))
        for line in lines:
            log.warning("%s", line)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
