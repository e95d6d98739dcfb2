"""Vectors of texts, from one provider of the model after the other: vectors of two models do not compare."""

from collections.abc import Awaitable, Callable

from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.failover.policy import Step, step_after
from inhouse.gateway.failover.pool import ProviderCut
from inhouse.gateway.failover.running import NOTHING, is_free
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.types import Attempt, CallRefused
from inhouse.providers.answers import Embedded
from inhouse.providers.errors import NotExpressible, ProviderError


async def embedded(gateway: Gateway, call: Call, on_attempt: Callable[[Attempt], Awaitable[None]]) -> Embedded:
    """Raises the first `ProviderError` where nobody gives any, and what `on_attempt` raises; `CallRefused` where
    nobody is open."""
    first: ProviderError | None = None
    order = [target for target in call.decision.order if target.model == call.decision.order[0].model]
    for target in order:
        if not gateway.pool.is_open(target.provider):
            continue
        attempt = Attempt(len(call.attempts) + 1, target, gateway.now())
        await on_attempt(attempt)
        call.attempts.append(attempt)
        try:
            return await _asked(gateway, call, attempt)
        except ProviderError as error:
            first = first or error
            if step_after(error, False, len(call.attempts) == 1) is Step.GIVE:
                raise
    if first is not None:
        raise first
    names = ", ".join(target.provider for target in order)
    raise CallRefused(503, f"nobody is there to answer: {names} is not open", "no_provider")


async def _asked(gateway: Gateway, call: Call, attempt: Attempt) -> Embedded:
    """Writes down what became of the attempt. What a status refused has used nothing; else nobody has said it."""
    request, target = call.asked.request, attempt.target
    assert isinstance(request, EmbeddingRequest)
    try:
        endpoint = gateway.pool.endpoint(target)
        answer = await endpoint.embed(request.model_copy(update={"model": target.upstream}))
        attempt.outcome, attempt.usage = "answered", answer.usage
        gateway.breaker.answered(target)
        return answer
    except ProviderError as error:
        attempt.outcome = error.kind
        if isinstance(error, NotExpressible | ProviderCut) or is_free(error):
            attempt.usage = NOTHING
        if not isinstance(error, ProviderCut):
            gateway.breaker.failed(target, error)
        raise
    except BaseException:
        attempt.outcome = "client gone"
        raise
    finally:
        attempt.seconds = gateway.now() - attempt.started
        attempt.is_estimate = attempt.usage is None
