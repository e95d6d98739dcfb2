"""The paths of the gateway: each reads and checks its request, opens a call, and wraps what comes of it."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from inhouse.api.body import read_body
from inhouse.api.errors import ApiError, is_anthropics
from inhouse.api.events import EventStream, Head, unless_gone
from inhouse.api.metrics import CONTENT_TYPE
from inhouse.api.openapi import EVENTS, JSON, Operation
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.fields import Request as Body
from inhouse.api.wire.messages import CountTokensRequest, MessagesRequest
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.gateway.call import answer, embed, opened
from inhouse.gateway.faces.cards import Card, card, cards
from inhouse.gateway.faces.chat import Chat
from inhouse.gateway.faces.completions import Completions
from inhouse.gateway.faces.embeddings import embeddings_of
from inhouse.gateway.faces.errors import as_api_error
from inhouse.gateway.faces.face import Face
from inhouse.gateway.faces.messages import Messages, refuse_to_count
from inhouse.gateway.faces.responses import Responses
from inhouse.gateway.gateway import Asked, Call, Gateway
from inhouse.gateway.outside.metrics import GatewayMetrics
from inhouse.gateway.routes.endpoint import Endpoint, asked_of
from inhouse.gateway.routes.keyed import ANY, CALLS, OPEN
from inhouse.gateway.routing.explain import header
from inhouse.gateway.settings import AUTO
from inhouse.gateway.store.content import Content
from inhouse.gateway.store.votes import vote
from inhouse.gateway.types import METRICS, Caller, CallRefused
from inhouse.providers.answers import Embedded
from inhouse.providers.errors import ProviderError

_SMALL = 32_768  # bytes of a body that are read faster than a thread is woken


class Feedback(Body):
    """POST /v1/feedback: whether an answer was good; `call` is what its header `x-inhouse-call` said."""

    call: str = Field(pattern=r"^call_[0-9a-f]{32}$")
    is_good: bool


class Endpoints:
    """What callers of models use; who administers has `admin`."""

    def __init__(self, gateway: Gateway, metrics: GatewayMetrics) -> None:
        self.metrics = metrics
        self.gateway, self.limits, self.created = gateway, gateway.config.server, int(gateway.now())
        self.document: dict[str, Any] = {}  # of all endpoints, these and others: `create_app` makes it

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
            Endpoint(CALLS, self.vote, Operation("/v1/feedback", "post", "A vote on an answer.", Feedback)),
            Endpoint(CALLS, self.models, Operation("/v1/models", "get", "The models that the key may ask for.")),
            Endpoint(CALLS, self.model, Operation("/v1/models/{model}", "get", "One of them, by its name.")),
            Endpoint(ANY, self.root, Operation("/", "get", "Whether a server is there, as some clients ask.")),
            Endpoint(ANY, self.openapi, Operation("/openapi.json", "get", "This document.")),
            Endpoint(METRICS, self.metrics_page, Operation(
                "/metrics", "get", "What was asked, answered, used and spent, for Prometheus.", None, ("text/plain",))),
            Endpoint(OPEN, self.health, Operation("/health", "get", "Whether the gateway works.")),
        ]  # fmt: skip

    async def generate(self, kind: type[Face], request: Request) -> Response:
        """Whatever generates: a face reads the request, then writes the answer, whole or as a stream."""
        raw = await read_body(request, self.limits)
        face = await self._read(kind, request, raw)
        caller: Caller = request.scope["caller"]
        asked = asked_of(face.name, face.request, request, raw)
        if not face.request.stream:
            call = await unless_gone(request.receive, self._answer(face, caller, asked))
            return JSONResponse(face.whole, headers=headers_of(call))
        head, patience = Head(), self.gateway.config.failover.first_ping
        return EventStream(
            self._stream(face, caller, asked, head), face.ping, self.limits.ping_interval, patience, head
        )

    async def _answer(self, face: Face, caller: Caller, asked: Asked) -> Call:
        async with opened(self.gateway, caller, asked) as call, aclosing(answer(self.gateway, call)) as events:
            async for said in events:
                face.keep(said)
            call.content = content_of(call, face)
        return call

    async def _stream(self, face: Face, caller: Caller, asked: Asked, head: Head) -> AsyncGenerator[bytes, None]:
        """Until its head is sent a failure is an HTTP status: nobody has answered by then, or been waited for long."""
        try:
            async with opened(self.gateway, caller, asked) as call, aclosing(answer(self.gateway, call)) as events:
                head.more, with_model = partial(headers_of, call, False), partial(headers_of, call)
                async for said in events:
                    head.more = with_model  # who answers is known
                    if piece := b"".join(face.take(said)):
                        yield piece
                call.content = content_of(call, face)
        except (ProviderError, CallRefused) as error:
            if not head.is_sent:
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
        wanted = await run_in_threadpool(EmbeddingRequest.parse, raw)
        asked = asked_of("embeddings", wanted, request, raw)
        call, vectors = await unless_gone(request.receive, self._embed(request.scope["caller"], asked))
        return JSONResponse(await run_in_threadpool(embeddings_of, wanted, vectors), headers=headers_of(call))

    async def _embed(self, caller: Caller, asked: Asked) -> tuple[Call, Embedded]:
        async with opened(self.gateway, caller, asked) as call:
            return call, await embed(self.gateway, call)

    async def vote(self, request: Request) -> Response:
        body = Feedback.parse(await read_body(request, self.limits))
        await vote(self.gateway.db, request.scope["caller"], body.call, body.is_good)
        return JSONResponse({"call": body.call, "is_good": body.is_good})

    async def models(self, request: Request) -> Response:
        shown = self._shown(request.scope["caller"])
        return JSONResponse(cards(shown, self.created, for_anthropic=is_anthropics(request.scope)))

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        for each in self._shown(request.scope["caller"]):
            if each.name == name:
                return JSONResponse(card(each, self.created, for_anthropic=is_anthropics(request.scope)))
        raise ApiError(404, f"There is no model '{name[:100]}' for this key.", param="model", code="model_not_found")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self.document)

    async def root(self, request: Request) -> Response:
        return JSONResponse({"models": "/v1/models", "paths": "/openapi.json"})

    async def metrics_page(self, request: Request) -> Response:
        return Response(await self.metrics.page(), headers={"content-type": CONTENT_TYPE})

    async def health(self, request: Request) -> Response:
        """Whether the store can be written: without that nobody is let in."""
        if fault := await self.gateway.replica.fault():
            message = f"The gateway's store cannot be written: {fault}."
            raise ApiError(503, message, code="store_" + fault.replace(" ", "_"), headers={"retry-after": "5"})
        return JSONResponse({"status": "ok"})

    def _shown(self, caller: Caller) -> list[Card]:
        """What the key may ask for: the choice of the gateway's, and models, each once; none of early access that is
        not its."""
        models = {AUTO: Card(AUTO, "inhouse")}
        for target, model in self.gateway.config.models().items():
            if not model.early_access or {*model.early_access} & {*caller.groups}:
                models.setdefault(target.model, Card(target.model, target.provider, model.context, model.max_output))
        return [card for name, card in models.items() if not caller.models or name in caller.models]


def content_of(call: Call, face: Face) -> Content | None:
    """What was asked and answered, where the key has it kept."""
    if not call.caller.keep_content_days:
        return None
    return Content(face.request.model_dump_json(exclude_unset=True), json.dumps(face.whole))


def headers_of(call: Call, is_answered: bool = True) -> dict[str, str]:
    """Which call it was, who answers, and why."""
    heads = {"x-inhouse-call": call.id, "x-inhouse-decision": header(call.decision)}
    if is_answered:
        target = next(each for each in reversed(call.attempts) if each.outcome in ("", "answered")).target
        heads["x-inhouse-model"] = f"{target.provider}/{target.model}"
    return heads
