"""One method a path: reads and checks the request, calls what answers it, wraps the result."""

import asyncio
import time
from typing import TypeVar

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inhouse.api import errors, protocol
from inhouse.api.errors import ApiError
from inhouse.api.events import EventStream, unless_gone
from inhouse.api.settings import ServeSettings
from inhouse.serve import chat, completions, tokens
from inhouse.serve.metrics import CONTENT_TYPE, Metrics
from inhouse.serve.served import Served

Body = TypeVar("Body", bound=protocol.Request)


class Endpoints:
    """The API of one served model."""

    def __init__(self, served: Served, metrics: Metrics) -> None:
        self.served, self.metrics, self.limits = served, metrics, served.settings
        self.card = {"id": served.name, "object": "model", "created": int(time.time()), "owned_by": "inhouse"}

    def routes(self) -> list[Route]:
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/tokenizer_info", self.tokenizer_info),
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
        ]

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.card]})

    async def model(self, request: Request) -> Response:
        self.served.check_model(request.path_params["model"])
        return JSONResponse(self.card)

    async def completions(self, request: Request) -> Response:
        body = await read(request, protocol.CompletionRequest, self.limits)
        if not body.stream:
            return JSONResponse(await unless_gone(request.receive, completions.answer(self.served, body)))
        chunks = await unless_gone(request.receive, completions.stream(self.served, body))
        return EventStream(chunks, self.limits.write_timeout)

    async def chat_completions(self, request: Request) -> Response:
        body = await read(request, protocol.ChatRequest, self.limits)
        if not body.stream:
            return JSONResponse(await unless_gone(request.receive, chat.answer(self.served, body)))
        chunks = await unless_gone(request.receive, chat.stream(self.served, body))
        return EventStream(chunks, self.limits.write_timeout)

    async def tokenize(self, request: Request) -> Response:
        body = await read(request, protocol.TokenizeRequest, self.limits)
        return JSONResponse(await tokens.tokenize(self.served, body))

    async def detokenize(self, request: Request) -> Response:
        body = await read(request, protocol.DetokenizeRequest, self.limits)
        return JSONResponse(await tokens.detokenize(self.served, body))

    async def tokenizer_info(self, request: Request) -> Response:
        return JSONResponse(tokens.tokenizer_info(self.served))

    async def health(self, request: Request) -> Response:
        self.served.worker.check_alive()
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        return Response(self.metrics.render(self.served.worker.gauges()), media_type=CONTENT_TYPE)


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
