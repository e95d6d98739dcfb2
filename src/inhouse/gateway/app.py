"""The HTTP application of the gateway: its routes, behind the keys and the counting."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from inhouse.api.metrics import ServerMetrics
from inhouse.api.middleware import OPEN, stack
from inhouse.gateway.endpoints import Endpoints
from inhouse.gateway.faces.errors import ALL_HANDLERS
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.keyed import Keyed


def create_app(gateway: Gateway) -> Starlette:
    """For a server on the host of the configuration; who made the gateway closes it."""
    server = gateway.config.server
    app = Starlette(
        routes=[Route(each.path, each.handler, methods=[each.method]) for each in Endpoints(gateway).all()],
        middleware=stack(
            server, ServerMetrics(), Middleware(Keyed, find=gateway.keys.find, open_paths=OPEN), server.host
        ),
        exception_handlers=ALL_HANDLERS,
    )
    app.state.gateway = gateway
    return app
