"""The paths of the gateway: each reads and checks its request, opens a call, and wraps what comes of it."""

import time
from collections.abc import AsyncGenerator
from functools import partial
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from inhouse.api.body import read_body
from inhouse.api.errors import ApiError, is_anthropics
from inhouse.api.events import EventStream, unless_gone
from inhouse.api.middleware import OPEN
from inhouse.api.openapi import EVENTS, JSON, Operation, document
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.messages import CountTokensRequest, MessagesRequest
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.gateway.call import opened
from inhouse.gateway.faces.cards import Card, card, cards
from inhouse.gateway.faces.chat import Chat
from inhouse.gateway.faces.completions import Completions
from inhouse.gateway.faces.embeddings import embeddings_of
from inhouse.gateway.faces.errors import as_api_error
from inhouse.gateway.faces.face import Face
from inhouse.gateway.faces.messages import Messages, refuse_to_count
from inhouse.gateway.faces.responses import Responses
from inhouse.gateway.gateway import Asked, Call, Gateway
from inhouse.gateway.keyed import ANY, Handler, needing
from inhouse.gateway.types import Caller, CallRefused
from inhouse.providers.errors import ProviderError

_SMALL = 32_768  # bytes of a body that are read faster than a thread is woken


class Endpoint(NamedTuple):
    """One path and method: what its key must be for, and what the OpenAPI document says of it."""

    scope: str
    handler: Handler
    operation: Operation

    @property
    def path(self) -> str:
        return self.operation.path.replace("{model}", "{model:path}")


class Endpoints:
    """What callers of models use; who administers has `admin`."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.limits, self.created = gateway, gateway.config.server, int(time.time())

    def all(self) -> list[Endpoint]:
        streams = (JSON, EVENTS)
        return [
            Endpoint("chat", partial(self.generate, Chat), Operation(
                "/v1/chat/completions", "post", "Answer a conversation.", ChatRequest, streams)),
            Endpoint("completions", partial(self.generate, Completions), Operation(
                "/v1/completions", "post", "Continue a prompt.", CompletionRequest, streams)),
            Endpoint("responses", partial(self.generate, Responses), Operation(
                "/v1/responses", "post", "Answer a conversation, as items.", ResponsesRequest, streams)),
            Endpoint("messages", partial(self.generate, Messages), Operation(
                "/v1/messages", "post", "Answer a conversation, as Anthropic's API.", MessagesRequest, streams)),
            Endpoint("messages", self.count_tokens, Operation(
                "/v1/messages/count_tokens", "post", "Refused: no one tokenizer counts.", CountTokensRequest)),
            Endpoint("embeddings", self.embed, Operation(
                "/v1/embeddings", "post", "Vectors of texts.", EmbeddingRequest)),
            Endpoint("models", self.models, Operation("/v1/models", "get", "The models that the key may ask for.")),
            Endpoint("models", self.model, Operation("/v1/models/{model}", "get", "One of them, by its name.")),
            Endpoint(ANY, self.health, Operation("/health", "get", "Whether the gateway works.")),
        ]  # fmt: skip

    async def generate(self, kind: type[Face], request: Request) -> Response:
        """Whatever generates: a face reads the request, then writes the answer, whole or as a stream."""
        raw = await read_body(request, self.limits)
        face = await self._read(kind, request, raw)
        caller: Caller = request.scope["caller"]
        asked = Asked(face.name, face.request, conversation_of(face.request, caller, *_named(request, raw)))
        heads: dict[str, str] = {}
        if not face.request.stream:
            await unless_gone(request.receive, self._answer(face, caller, asked, heads))
            return JSONResponse(face.whole, headers=heads)
        events = self._stream(face, caller, asked, heads)
        await unless_gone(request.receive, anext(events))  # somebody answers, or an HTTP status says why not
        return EventStream(events, face.ping, self.limits.ping_interval, heads)

    async def _answer(self, face: Face, caller: Caller, asked: Asked, heads: dict[str, str]) -> None:
        async with opened(self.gateway, caller, asked) as (call, events):
            async for said in events:
                for _ in face.take(said):
                    pass
        heads |= headers_of(call)

    async def _stream(
        self, face: Face, caller: Caller, asked: Asked, heads: dict[str, str]
    ) -> AsyncGenerator[bytes, None]:
        """The first is empty and says that somebody has begun to answer: until then a failure is an HTTP status."""
        try:
            async with opened(self.gateway, caller, asked) as (call, events):
                async for said in events:
                    if not heads:
                        heads |= headers_of(call)
                        yield b""
                    if piece := b"".join(face.take(said)):
                        yield piece
        except (ProviderError, CallRefused) as error:
            if not heads:
                raise
            for piece in face.fail(as_api_error(error)):
                yield piece

    async def _read(self, kind: type[Face], request: Request, raw: bytes) -> Face:
        if len(raw) <= _SMALL:
            return kind(raw)
        return await unless_gone(request.receive, run_in_threadpool(kind, raw))

    async def count_tokens(self, request: Request) -> Response:
        raw = await read_body(request, self.limits)
        await run_in_threadpool(refuse_to_count, raw)
        raise AssertionError("it refuses")

    async def embed(self, request: Request) -> Response:
        raw = await read_body(request, self.limits)
        asked, caller = await run_in_threadpool(EmbeddingRequest.parse, raw), request.scope["caller"]
        conversation = conversation_of(asked, caller, *_named(request, raw))
        answer, heads = await unless_gone(request.receive, self._embed(caller, Asked("embeddings", asked, conversation)))
        return JSONResponse(await run_in_threadpool(embeddings_of, asked, answer), headers=heads)

    async def models(self, request: Request) -> Response:
        shown = self.cards_for(request.scope["caller"])
        return JSONResponse(cards(shown, self.created, for_anthropic=is_anthropics(request.scope)))

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        for each in self.cards_for(request.scope["caller"]):
            if each.name == name:
                return JSONResponse(card(each, self.created, for_anthropic=is_anthropics(request.scope)))
        raise ApiError(404, f"There is no model '{name[:100]}' for this key.", param="model", code="model_not_found")
