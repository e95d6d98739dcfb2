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

_REFUSALS = {
    402: "A budget has not enough left.",
    403: "The key may not ask this, or a web page of this origin may not.",
    404: "There is no such model, task, call or key.",
    429: "A limit of requests or tokens is reached, or the provider's is.",
    502: "No provider has answered.",
    503: "Nobody who may answer is there, or the store does not answer.",
    504: "No provider has answered in time.",
}


def create_app(gateway: Gateway) -> Starlette:
    """For a server on the host of the configuration; who made the gateway closes it."""
    server, endpoints, admin = gateway.config.server, Endpoints(gateway), Admin(gateway)
    served = [*endpoints.all(), *admin.all()]
    endpoints.document = document([each.operation for each in served], True, OPEN, _REFUSALS)
    app = Starlette(
        routes=[each.route for each in served],
        middleware=stack(
            server, ServerMetrics(), Middleware(Keyed, find=gateway.keys.find, open_paths=OPEN), server.host
        ),
        exception_handlers=ALL_HANDLERS,
    )
    app.state.gateway = gateway
    return app
