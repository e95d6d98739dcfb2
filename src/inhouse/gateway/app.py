"""The HTTP application of the gateway: its routes, behind the keys and the counting."""

from starlette.applications import Starlette
from starlette.middleware import Middleware

from inhouse.api.metrics import ServerMetrics
from inhouse.api.middleware import OPEN, stack
from inhouse.api.openapi import document
from inhouse.gateway.faces.errors import ALL_HANDLERS
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.routes.admin import Admin
from inhouse.gateway.routes.endpoints import Endpoints
from inhouse.gateway.routes.keyed import Keyed


def create_app(gateway: Gateway) -> Starlette:
    """For a server on the host of the configuration; who made the gateway closes it."""
    server, endpoints, admin = gateway.config.server, Endpoints(gateway), Admin(gateway)
    served = [*endpoints.all(), *admin.all()]
    endpoints.document = document([each.operation for each in served], True, OPEN)
    app = Starlette(
        routes=[each.route for each in served],
        middleware=stack(
            server, ServerMetrics(), Middleware(Keyed, find=gateway.keys.find, open_paths=OPEN), server.host
        ),
        exception_handlers=ALL_HANDLERS,
    )
    app.state.gateway = gateway
    return app
