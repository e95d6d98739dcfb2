"""One path of the gateway: who may ask it, what answers it, and what the OpenAPI document says of it."""

import json
import re
from typing import NamedTuple

from starlette.requests import Request
from starlette.routing import Route

from inhouse.api.openapi import Operation
from inhouse.gateway.gateway import Asked
from inhouse.gateway.routes.keyed import Handler, needing
from inhouse.gateway.routing.request import AnyRequest, conversation_of
from inhouse.gateway.types import Face

_USER = re.compile(rb'"user"\s*:')  # as a key; looked for before a body is read twice


class Endpoint(NamedTuple):
    """`scope`: what a key must be for (`keyed.needing`)."""

    scope: str
    handler: Handler
    operation: Operation

    @property
    def route(self) -> Route:
        path = self.operation.path.replace("{model}", "{model:path}")
        return Route(path, needing(self.scope, self.handler), methods=[self.operation.method.upper()])


def asked_of(face: Face, wanted: AnyRequest, request: Request, raw: bytes) -> Asked:
    """What a request asks, with what its headers say of it. `raw` is its body, whose `user` the wire types drop."""
    headers, user = request.headers, json.loads(raw).get("user") if _USER.search(raw) else None
    conversation = conversation_of(
        wanted, request.scope["caller"], headers.get("x-conversation-id"), user if isinstance(user, str) else None
    )
    return Asked(face, wanted, conversation, headers.get("traceparent", ""))
