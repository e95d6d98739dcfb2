"""Vectors of texts, from one provider of the model after the other: vectors of two models do not compare."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.failover.pool import ProviderCut
from inhouse.gateway.failover.running import NOTHING, is_free
from inhouse.gateway.failover.turns import Turns
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.types import Attempt, Target
from inhouse.providers.answers import Embedded
from inhouse.providers.errors import NotExpressible, ProviderError


async def embedded(
    gateway: Gateway,
    call: Call,
    on_attempt: Callable[[Attempt], Awaitable[None]],
    said_to: Callable[[EmbeddingRequest, Target], EmbeddingRequest],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Embedded:
    """Whose turn it is is decided as for answers: who asks to be left alone is.

    Raises the first `ProviderError` where nobody gives any, and what `on_attempt` raises; `CallRefused` where nobody is
    open.
    """
    order = [target for target in call.decision.order if target.model == call.decision.order[0].model]
    turns = Turns(order, gateway.pool, gateway.breaker, gateway.config.failover, time.monotonic, sleep)
    while True:
        target = await turns.next()
        attempt = Attempt(len(call.attempts) + 1, target, gateway.now())
        try:
            await on_attempt(attempt)
        except BaseException:
            gateway.breaker.undecided(target)
            raise
        call.attempts.append(attempt)
        try:
            return await _asked(gateway, call, attempt, said_to)
        except ProviderError as error:
            turns.failed(target, error, has_begun=False)


async def _asked(
    gateway: Gateway, call: Call, attempt: Attempt, said_to: Callable[[EmbeddingRequest, Target], EmbeddingRequest]
) -> Embedded:
    """Writes down what became of the attempt. What a status refused has used nothing; else nobody has said it."""
    request, target = call.asked.request, attempt.target
    assert isinstance(request, EmbeddingRequest)
    try:
        endpoint = gateway.pool.endpoint(target)
        answer = await endpoint.embed(said_to(request, target).model_copy(update={"model": target.upstream}))
        attempt.outcome, attempt.usage = "answered", answer.usage
        gateway.breaker.answered(target)
        return answer
    except ProviderError as error:
        attempt.outcome = error.kind
        if isinstance(error, NotExpressible | ProviderCut) or is_free(error):
            attempt.usage = NOTHING
        if isinstance(error, ProviderCut):
            gateway.breaker.undecided(target)
        else:
            gateway.breaker.failed(target, error)
        raise
    except BaseException:
        attempt.outcome = "client gone"
        gateway.breaker.undecided(target)
        raise
    finally:
        attempt.seconds = gateway.now() - attempt.started
        attempt.is_estimate = attempt.usage is None
