"""What a call may cost before it is made, and what is booked after it."""

import json
from collections.abc import Sequence

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.routing.explain import as_json
from inhouse.gateway.routing.request import AnyRequest, asked_tokens, number_of_answers
from inhouse.gateway.settings import ModelSettings
from inhouse.gateway.spend.cost import Size, Spent, most_cost, size_of_chat, size_of_texts, spent
from inhouse.gateway.store.ledger import Booked, Ending, NewCall
from inhouse.gateway.types import Attempt, Target

_COMPLETION = 16  # tokens of a completion whose request says nothing, in OpenAI's API


def size_at(request: AnyRequest, model: ModelSettings) -> Size:
    """The tokens that a request may use at a model."""
    if isinstance(request, ChatRequest):
        return size_of_chat(request, model.max_output, model.context)
    if isinstance(request, EmbeddingRequest):
        return size_of_texts(request.input, 0)
    most = _COMPLETION if request.max_tokens is None else request.max_tokens
    return size_of_texts(request.prompt, most * request.n, model.context)


def new_call(gateway: Gateway, call: Call) -> NewCall:
    """The row of a call: who, what and why, and what is held back for it until it is settled."""
    request, order, when = call.asked.request, call.decision.order, call.started
    budgets, rates = gateway.limits.of(call.caller, call.decision.task)
    return NewCall(
        id=call.id,
        caller=call.caller,
        task=call.decision.task,
        asked=request.model,
        decision=json.dumps(as_json(call.decision)),
        face=call.asked.face,
        is_stream=getattr(request, "stream", False),
        budgets=budgets,
        rates=rates,
        tokens_estimate=_tokens(gateway, request, order),
        reserve=_most(gateway, request, order, when),
        trace=call.asked.trace,
    )


def _most(gateway: Gateway, request: AnyRequest, order: Sequence[Target], when: float) -> int:
    """Nano-units that one attempt may cost, at the dearest of those who may be asked."""
    return max(
        most_cost(gateway.prices.at(target, when), size_at(request, gateway.pool.model(target))) for target in order
    )


def more_for(gateway: Gateway, call: Call, attempt: Attempt, reserved: int) -> int:
    """Nano-units that are missing for one more attempt: those before it may have cost something, or still run."""
    others = sum(_spent(gateway, call, each).high for each in call.attempts if each is not attempt)
    return max(0, others + _spent(gateway, call, attempt).high - reserved)


def _spent(gateway: Gateway, call: Call, attempt: Attempt) -> Spent:
    price = gateway.prices.at(attempt.target, attempt.started)
    return spent(price, attempt, size_at(call.asked.request, gateway.pool.model(attempt.target)))


def _tokens(gateway: Gateway, request: AnyRequest, order: Sequence[Target]) -> int:
    """What is taken from the buckets of tokens; the difference to what was used is put right in the end."""
    size = size_at(request, gateway.pool.model(order[0]))
    asked = asked_tokens(request)
    answer = gateway.config.routing.answer_tokens if asked is None else asked
    return size.prompt + min(answer * number_of_answers(request), size.most_completion)


def ending(gateway: Gateway, call: Call) -> Ending:
    """How a call ended, with what each of its attempts cost."""
    booked = []
    for attempt in call.attempts:
        cost = _spent(gateway, call, attempt)
        booked.append(Booked(attempt, cost.price_version, cost.cost, cost.low, cost.high))
    return Ending(call.outcome, call.status, call.seconds, call.first_token, tuple(booked))
