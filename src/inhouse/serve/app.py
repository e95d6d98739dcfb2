"""The HTTP application of one model: its endpoints, behind the API key and the counting."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from inhouse.api.errors import HANDLERS
from inhouse.api.metrics import ServerMetrics
from inhouse.api.middleware import Keyed, stack
from inhouse.api.settings import ServeSettings
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import SamplingParams
from inhouse.serve.admission import Admission
from inhouse.serve.endpoints import Endpoints
from inhouse.serve.served import Generating, Served
from inhouse.serve.worker import Worker


def create_app(
    engine: Generating,
    tokenizer: Tokenizer,
    *,
    name: str,
    chat_template: str | None,
    sampling: SamplingParams | None = None,
    api_key: str | None = None,
    settings: ServeSettings | None = None,
    host: str = "127.0.0.1",
    on_crash: Callable[[], None] = lambda: None,
    worker_type: Callable[..., Admission] = Worker,
) -> Starlette:
    """The OpenAI-compatible API of one model, called `name`, for a server on `host`.

    `worker_type` makes the engine generate while the lifespan lasts; where that can compute no more, `on_crash` is
    called on the event loop. `sampling` is how it samples where a request does not say. Without a `chat_template` the
    chat endpoint refuses requests; with an `api_key` every path but /health asks for it.
    """
    if api_key is not None and not api_key.strip():
        raise ValueError("the API key is empty; give one, or none at all to let everybody in")
    settings, metrics = settings or ServeSettings(), ServerMetrics()
    worker = worker_type(engine, metrics, settings.max_queue, on_crash)
    longest_token = max(len(tokenizer.decode_bytes([token])) for token in range(tokenizer.vocab_size))
    sampling = sampling or SamplingParams(max_tokens=1)
    served = Served(name, engine, tokenizer, chat_template, worker, settings, longest_token, sampling)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await worker.start()
        try:
            yield
        finally:
            await worker.stop()

    app = Starlette(
        routes=Endpoints(served, api_key is not None).routes(),
        middleware=stack(settings, metrics, Middleware(Keyed, api_key=api_key), host),
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.state.served = served
    return app
