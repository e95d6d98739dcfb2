"""A socket and a uvicorn around an application, with the limits that strangers meet."""

import socket

import uvicorn
from starlette.types import ASGIApp

from inhouse.api.connections import Connections
from inhouse.api.settings import HttpSettings


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on {host} port {port} ({error}); choose another host or port") from error


def new_server(app: ASGIApp, settings: HttpSettings) -> uvicorn.Server:
    """uvicorn, set up so that nobody can hold it for ever. Raises `ValueError` where the TLS files are none."""
    connections = Connections(settings)

    async def sweep() -> None:
        connections.sweep()

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        http=connections.protocol,  # type: ignore[arg-type]  # whatever makes a protocol
        callback_notify=sweep,
        timeout_notify=1,
        timeout_graceful_shutdown=settings.shutdown_timeout,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        files = " and ".join(str(file) for file in (settings.tls_certificate, settings.tls_key) if file)
        raise ValueError(f"{files}: not a certificate and its key in PEM ({error})") from error
    return uvicorn.Server(config)
