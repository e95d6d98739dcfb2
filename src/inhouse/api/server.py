"""A socket and a uvicorn around an application, with the limits that strangers meet."""

import ipaddress
import socket

import uvicorn
from starlette.types import ASGIApp

from inhouse.api.settings import ServeSettings


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ValueError(f"cannot listen on {host} port {port} ({error}); choose another host or port") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def new_server(app: ASGIApp, settings: ServeSettings) -> uvicorn.Server:
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
