"""The HTTP application of the gateway: its routes, behind the keys and the counting."""

from starlette.applications import Starlette
from starlette.middleware import Middleware

from inhouse.api.middleware import OPEN, stack
from inhouse.api.openapi import document
from inhouse.gateway.faces.errors import ALL_HANDLERS
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.outside.logs import log_call
from inhouse.gateway.outside.metrics import GatewayMetrics
from inhouse.gateway.outside.page import AdminPage
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
    server, metrics, page = gateway.config.server, GatewayMetrics(gateway), AdminPage(gateway)
    endpoints, admin = Endpoints(gateway, metrics), Admin(gateway)
    gateway.observers += [metrics.observe, log_call]
    keyed = Middleware(Keyed, find=gateway.keys.find, open_paths=(*OPEN, *page.paths))
    served = [*endpoints.all(), *admin.all()]
    endpoints.document = document([each.operation for each in served], True, OPEN, _REFUSALS)
    app = Starlette(
        routes=[*(each.route for each in served), *page.routes()],
        middleware=stack(server, metrics, keyed, server.host),
        exception_handlers=ALL_HANDLERS,
    )
    app.state.gateway = gateway
    return app
