"""Who asks, by the key of a request, and whether this key may ask what a route does."""

from collections.abc import Awaitable, Callable, Collection
from typing import get_args

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from inhouse.api.errors import ApiError
from inhouse.api.middleware import given_keys, wrong_key
from inhouse.gateway.types import METRICS, Caller, Face

Handler = Callable[[Request], Awaitable[Response]]
# what a route may need beside a face: an administrator's key, one that may ask some face, any key, none
ADMIN, CALLS, ANY, OPEN = "admin", "calls", "any", "open"
_FACES = frozenset(get_args(Face))


class Keyed:
    """401 unless the request carries a key that `find` knows; then `scope["caller"]` is whose it is. `open_paths` ask
    for none. Middleware: no route is forgotten, not even one that is not there."""

    def __init__(
        self, app: ASGIApp, find: Callable[[str], Awaitable[Caller | None]], open_paths: Collection[str]
    ) -> None:
        self.app, self.find, self.open_paths = app, find, frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self.open_paths:
            given = next(filter(None, given_keys(Headers(scope=scope))), "")
            caller = await self.find(given) if given else None
            if caller is None:
                await wrong_key().response(scope)(scope, receive, send)
                return
            scope["caller"] = caller
        await self.app(scope, receive, send)


def needing(scope: str, handler: Handler) -> Handler:
    """The handler for keys that have this scope only; others get 403 before their body is read."""

    async def checked(request: Request) -> Response:
        if scope != OPEN:
            check_access(request.scope["caller"], scope)
        return await handler(request)

    return checked


def check_access(caller: Caller, scope: str) -> None:
    """Raises `ApiError`. An administrator's key may administer; what else it may is said by its scopes, as for all."""
    if scope == ADMIN and not caller.is_admin:
        raise ApiError(403, "This needs an administrator's key.", code="admin_only")
    if scope == CALLS and caller.faces and not _FACES & {*caller.faces}:
        raise ApiError(403, "This key may not ask any face.", code="face_not_allowed")
    if scope == METRICS and not (caller.is_admin or METRICS in caller.faces):
        raise ApiError(403, "This needs a key that is for metrics, or an administrator's.", code="face_not_allowed")
    if scope not in (ADMIN, CALLS, ANY, METRICS) and caller.faces and scope not in caller.faces:
        raise ApiError(403, f"This key may not ask the face {scope}.", code="face_not_allowed")
