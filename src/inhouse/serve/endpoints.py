"""The paths of one served model: each reads and checks its request, calls what answers it, wraps the result."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inhouse.api.body import read_body
from inhouse.api.events import EventStream, unless_gone
from inhouse.api.metrics import CONTENT_TYPE
from inhouse.api.middleware import OPEN
from inhouse.api.openapi import EVENTS, JSON, Operation, document
from inhouse.api.wire.messages import CountTokensRequest, MessagesRequest
from inhouse.api.wire.protocol import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)
from inhouse.api.wire.responses import ResponsesRequest
from inhouse.serve.faces import tokens
from inhouse.serve.faces.chat import Chat
from inhouse.serve.faces.completions import Completions
from inhouse.serve.faces.embeddings import Embeddings
from inhouse.serve.faces.messages import Messages, count_tokens
from inhouse.serve.faces.responses import Responses
from inhouse.serve.generation import Face
from inhouse.serve.served import Served

OPERATIONS = (
    Operation("/v1/models", "get", "The one model."),
    Operation("/v1/models/{model}", "get", "The one model, by its name."),
    Operation("/v1/completions", "post", "Continue prompts.", CompletionRequest, (JSON, EVENTS)),
    Operation("/v1/chat/completions", "post", "Answer a conversation.", ChatRequest, (JSON, EVENTS)),
    Operation("/v1/responses", "post", "Answer a conversation, as items.", ResponsesRequest, (JSON, EVENTS)),
    Operation("/v1/messages", "post", "Answer a conversation, as Anthropic's API.", MessagesRequest, (JSON, EVENTS)),
    Operation("/v1/messages/count_tokens", "post", "The length of such a conversation.", CountTokensRequest),
    Operation("/v1/embeddings", "post", "Vectors of texts.", EmbeddingRequest),
    Operation("/tokenize", "post", "The tokens of a text or of a conversation.", TokenizeRequest),
    Operation("/detokenize", "post", "The text of tokens.", DetokenizeRequest),
    Operation("/tokenizer_info", "get", "What clients without a tokenizer need to know of it."),
    Operation("/health", "get", "Whether the engine works."),
    Operation("/metrics", "get", "Prometheus' text format.", None, ("text/plain",)),
    Operation("/openapi.json", "get", "This document."),
)


class Endpoints:
    """The API of one served model."""

    def __init__(self, served: Served, has_key: bool) -> None:
        self.served, self.limits = served, served.settings
        self.document = document(OPERATIONS, has_key, OPEN)
        self.card = {"id": served.name, "object": "model", "created": int(time.time()), "owned_by": "inhouse"}

    def routes(self) -> list[Route]:
        return [
            Route("/openapi.json", self.openapi),
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/v1/completions", partial(self.generate, Completions), methods=["POST"]),
            Route("/v1/chat/completions", partial(self.generate, Chat), methods=["POST"]),
            Route("/v1/responses", partial(self.generate, Responses), methods=["POST"]),
            Route("/v1/messages", partial(self.generate, Messages), methods=["POST"]),
            Route("/v1/messages/count_tokens", partial(self.convert, count_tokens), methods=["POST"]),
            Route("/v1/embeddings", self.embed, methods=["POST"]),
            Route("/tokenize", partial(self.convert, tokens.tokenize), methods=["POST"]),
            Route("/detokenize", partial(self.convert, tokens.detokenize), methods=["POST"]),
            Route("/tokenizer_info", self.tokenizer_info),
            Route("/health", self.health),
            Route("/metrics", self.show_metrics),
        ]

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self.document)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.card]})

    async def model(self, request: Request) -> Response:
        self.served.check_model(request.path_params["model"])
        return JSONResponse(self.card)

    async def generate(self, kind: type[Face], request: Request) -> Response:
        """Whatever generates: a face reads the request off the loop, then answers it whole or as a stream."""
        raw, caller = await read_body(request, self.limits), request.scope["caller"]
        face = await unless_gone(request.receive, run_in_threadpool(kind, self.served, raw))
        if not face.body.stream:
            return JSONResponse(await unless_gone(request.receive, face.answer(caller)))
        events = face.stream(caller)
        await anext(events)  # admitted, or refused with an HTTP status
        return EventStream(events)

    async def embed(self, request: Request) -> Response:
        raw = await read_body(request, self.limits)
        batch = await unless_gone(request.receive, run_in_threadpool(Embeddings, self.served, raw))
        vectors = await unless_gone(request.receive, batch.vectors(request.scope["caller"]))
        return Response(await run_in_threadpool(batch.render, vectors), media_type=JSON)

    async def convert(self, function: Callable[[Served, bytes], dict[str, Any]], request: Request) -> Response:
        raw = await read_body(request, self.limits)
        return JSONResponse(await run_in_threadpool(function, self.served, raw))

    async def tokenizer_info(self, request: Request) -> Response:
        return JSONResponse(tokens.tokenizer_info(self.served))

    async def health(self, request: Request) -> Response:
        self.served.worker.check_alive()
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        return Response(await self.served.worker.metrics_page(), media_type=CONTENT_TYPE)
