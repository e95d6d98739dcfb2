"""One call's life: who asks and who may answer; the row and the money, before anybody is asked; the answer; what was
used, booked whatever happens."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from uuid import uuid4

from inhouse.gateway.failover.answer import Answering
from inhouse.gateway.gateway import Asked, Call, Gateway
from inhouse.gateway.spend.cost import reservation
from inhouse.gateway.store import ledger
from inhouse.gateway.types import Attempt, Caller, CallRefused, Decision
from inhouse.providers.answers import Begun, Event
from inhouse.providers.errors import ProviderError


@asynccontextmanager
async def opened(gateway: Gateway, caller: Caller, asked: Asked) -> AsyncIterator[tuple[Call, AsyncIterator[Event]]]:
    """A call and its answer as it comes. What is raised inside, a cancellation included, is its outcome.

    Raises `CallRefused` where it is not let in: nobody was asked then, and nothing is booked.
    """
    check_scope(caller, asked)
    decision = await gateway.decide(caller, asked)
    check_task(caller, decision)
    call = Call(f"call-{uuid4().hex}", caller, asked, decision, started=gateway.now())
    await ledger.open_call(gateway.db, gateway.new_call(call))
    gateway.live[call.id] = call
    try:
        async with aclosing(answered(gateway, call)) as events:
            yield call, events
        call.outcome = "answered"
    except ProviderError as error:
        call.outcome = error.kind
        raise
    except CallRefused as error:
        call.outcome = error.code
        raise
    finally:
        call.outcome = call.outcome or "client gone"
        gateway.spawn(settle(gateway, call))  # a task of its own: this one may be cancelled


async def answered(gateway: Gateway, call: Call) -> AsyncIterator[Event]:
    """Whoever answers of those whom the decision names; every attempt stands in the ledger before it is made."""

    async def on_attempt(attempt: Attempt) -> None:
        if attempt.number > 1:  # the first is there since the call was opened
            await ledger.open_attempt(gateway.db, call.id, attempt)

    answering = Answering(
        call.asked.request, call.decision.order, gateway.pool, gateway.breaker, gateway.config.failover, on_attempt
    )
    call.attempts = answering.attempts
    async with aclosing(answering.events()) as events:
        async for event in events:
            if call.first_token is None and not isinstance(event, Begun):
                call.first_token = gateway.now() - call.started
            yield event


async def settle(gateway: Gateway, call: Call) -> None:
    """Book what was used, give back what was reserved, and tell who watches."""
    call.seconds = gateway.now() - call.started
    del gateway.live[call.id]
    await ledger.settle(gateway.db, call.id, gateway.costs(call), call.outcome)
    for observe in gateway.observers:
        observe(call)


def check_scope(caller: Caller, asked: Asked) -> None:
    """Raises `CallRefused` where the key may not ask this face, or for this model."""
    if caller.faces and asked.face not in caller.faces:
        raise CallRefused(403, f"This key may not ask the face {asked.face}.", "face_not_allowed")
    model, _, task = asked.request.model.partition(":")
    if caller.models and model not in caller.models:
        raise CallRefused(403, f"This key may not ask for the model '{model[:100]}'.", "model_not_allowed")
    if caller.tasks and task and task not in caller.tasks:
        raise CallRefused(403, f"This key may not ask for the task '{task[:100]}'.", "task_not_allowed")


def check_task(caller: Caller, decision: Decision) -> None:
    """Raises `CallRefused` where the key may only ask for some tasks, and this is none of them."""
    if caller.tasks and decision.task not in caller.tasks:
        found = f"'{decision.task}'" if decision.task else "none that is known"
        message = f"This key may only ask for some tasks, and the task of this request is {found}."
        raise CallRefused(403, message, "task_not_allowed")
