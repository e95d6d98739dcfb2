"""The HTTP application: routes, the API key, and the limits on a request before anybody looks at it."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine import Engine
from inhouse.serve import chat, completions, errors, protocol, tokens
from inhouse.serve.errors import ApiError
from inhouse.serve.metrics import CONTENT_TYPE, Metrics
from inhouse.serve.served import Served
from inhouse.serve.settings import ServeSettings
from inhouse.serve.streaming import EventStream, unless_gone
from inhouse.serve.worker import Worker

log = logging.getLogger(__name__)
Body = TypeVar("Body", bound=protocol.Request)


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
    served = Served(name, engine, tokenizer, chat_template, worker, settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        worker.start()
        try:
            yield
        finally:
            await run_in_threadpool(worker.stop)

    app = Starlette(
        routes=_routes(served, metrics),
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


def _routes(served: Served, metrics: Metrics) -> list[Route]:
    created = int(time.time())
    limits = served.settings
    card = {"id": served.name, "object": "model", "created": created, "owned_by": "inhouse"}

    async def list_models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [card]})

    async def one_model(request: Request) -> Response:
        served.check_model(request.path_params["model"])
        return JSONResponse(card)

    async def complete(request: Request) -> Response:
        return await _generate(request, completions.answer, completions.stream, protocol.CompletionRequest)

    async def chat_complete(request: Request) -> Response:
        return await _generate(request, chat.answer, chat.stream, protocol.ChatRequest)

    async def _generate(request: Request, answer: Callable, stream: Callable, kind: type[Body]) -> Response:
        body = await read(request, kind, limits)
        if not body.stream:
            return JSONResponse(await unless_gone(request.receive, answer(served, body)))
        return EventStream(await unless_gone(request.receive, stream(served, body)), limits.write_timeout)

    async def tokenize(request: Request) -> Response:
        return JSONResponse(await tokens.tokenize(served, await read(request, protocol.TokenizeRequest, limits)))

    async def detokenize(request: Request) -> Response:
        return JSONResponse(await tokens.detokenize(served, await read(request, protocol.DetokenizeRequest, limits)))

    async def tokenizer_info(request: Request) -> Response:
        return JSONResponse(tokens.tokenizer_info(served))

    async def health(request: Request) -> Response:
        served.worker.check_alive()
        return JSONResponse({"status": "ok"})

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.render(served.worker.gauges()), media_type=CONTENT_TYPE)

    return [
        Route("/v1/models", list_models),
        Route("/v1/models/{model:path}", one_model),
        Route("/v1/completions", complete, methods=["POST"]),
        Route("/v1/chat/completions", chat_complete, methods=["POST"]),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/tokenizer_info", tokenizer_info),
        Route("/health", health),
        Route("/metrics", show_metrics),
    ]


async def read(request: Request, kind: type[Body], limits: ServeSettings) -> Body:
    """The request's JSON body as `kind`, or the `ApiError` that says what is wrong with it."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # a web page may post text/plain to a loopback server without the browser asking it first; JSON it may not
        raise ApiError(415, "The request's body must be sent as Content-Type: application/json.")
    try:
        async with asyncio.timeout(limits.read_timeout):
            body = await _read_bytes(request, limits.max_body_bytes)
    except TimeoutError:
        raise ApiError(
            408, f"The request's body did not arrive within {limits.read_timeout:g} s.", headers={"connection": "close"}
        ) from None
    try:
        return await run_in_threadpool(kind.model_validate_json, body)
    except ValidationError as error:
        raise errors.from_validation(error) from error


async def _read_bytes(request: Request, most: int) -> bytes:
    """The body, refused as soon as it is known to be over the limit: declared so, or counted while it arrives."""
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if not declared.isdecimal() or int(declared[:20]) <= most:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                break
        else:
            return bytes(body)
    raise ApiError(413, f"The request's body is over {most} bytes.", headers={"connection": "close"})


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
