"""The HTTP application: endpoints, error handlers, the API key, counting."""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inhouse.api import errors
from inhouse.api.errors import ApiError
from inhouse.api.settings import ServeSettings
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.serve.endpoints import Endpoints
from inhouse.serve.metrics import Metrics
from inhouse.serve.served import Served
from inhouse.serve.worker import Worker


def create_app(
    engine: Engine,
    tokenizer: Tokenizer,
    *,
    name: str,
    chat_template: str | None,
    api_key: str | None = None,
    settings: ServeSettings | None = None,
) -> Starlette:
    """The OpenAI-compatible API of one model, called `name`. It owns the engine while its lifespan lasts.

    Without a `chat_template` the chat endpoint refuses requests; with an `api_key` every path but /health asks for it.
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("the API key is empty; give one, or none at all to let everybody in")
    settings, metrics = settings or ServeSettings(), Metrics()
    worker = Worker(engine, metrics, settings.max_queue)
    longest_token = max(len(tokenizer.decode_bytes([token])) for token in range(tokenizer.vocab_size))
    served = Served(name, engine, tokenizer, chat_template, worker, settings, longest_token)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await run_in_threadpool(worker.stop)

    app = Starlette(
        routes=Endpoints(served, metrics).routes(),
        middleware=[Middleware(_Counted, metrics=metrics), Middleware(_Keyed, api_key=api_key)],
        exception_handlers={
            ApiError: errors.on_api_error,
            HTTPException: errors.on_http_error,
            ClientDisconnect: _nobody_listens,
            Exception: errors.on_crash,
        },
        lifespan=lifespan,
    )
    app.state.served = served
    return app


async def _nobody_listens(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nginx's status for it; it only reaches the metrics


class _Keyed:
    """401 unless the request carries the key; compared in constant time, never logged."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self.app = app
        self.expected = f"Bearer {api_key}".encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.expected is not None and scope["path"] != "/health":
            given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, self.expected):
                message = "Missing or wrong API key; send Authorization: Bearer KEY."
                error = ApiError(401, message, code="invalid_api_key")
                await error.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)


class _Counted:
    """Counts answers by route and status; unknown paths are one label, so that strangers cannot make up new ones."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if isinstance(route, Route) else "other"
                self.metrics.responses[path, message["status"]] += 1
            await send(message)

        await self.app(scope, receive, count if scope["type"] == "http" else send)
