"""One call's life: who asks and who may answer; the row and the money, before anybody is asked; the answer; what was
used, booked whatever happens."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import TypeVar

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.booking import ending, more_for, new_call
from inhouse.gateway.embedding import embedded
from inhouse.gateway.faces.errors import as_api_error
from inhouse.gateway.failover.answer import Answering
from inhouse.gateway.gateway import Asked, Call, Gateway
from inhouse.gateway.settings import AUTO
from inhouse.gateway.store import ledger
from inhouse.gateway.store.content import keep_content
from inhouse.gateway.store.meters import left
from inhouse.gateway.types import Attempt, Caller, CallRefused, Decision, Target
from inhouse.providers.answers import Begun, Embedded, Event
from inhouse.providers.errors import ProviderError

Salted = TypeVar("Salted", ChatRequest, CompletionRequest, EmbeddingRequest)


@asynccontextmanager
async def opened(gateway: Gateway, caller: Caller, asked: Asked) -> AsyncIterator[Call]:
    """A call whose answer is asked for inside; what is raised there, a cancellation included, is its outcome.

    Raises `CallRefused` where it is not let in: nobody was asked then, and nothing is booked.
    """
    call = Call(ledger.new_call_id(), caller, asked, await decide(gateway, caller, asked), gateway.now())
    gateway.live[call.id] = call
    try:
        yield call
        call.outcome, call.status = "answered", 200
    except ProviderError as error:
        call.outcome, call.status = error.kind, as_api_error(error).status
        raise
    except CallRefused as error:
        call.outcome, call.status = error.code, error.status
        raise
    except Exception:  # unforeseen; the log has it
        call.outcome, call.status = "failed", 500
        raise
    except BaseException:
        call.outcome, call.status = "client gone", 499
        raise
    finally:
        call.seconds = gateway.now() - call.started
        gateway.spawn(settle(gateway, call))  # on its own: whoever asked is not kept, and may be cancelled


async def decide(gateway: Gateway, caller: Caller, asked: Asked) -> Decision:
    """Who may answer, for a caller who may ask. Raises `CallRefused`."""
    model = asked.request.model
    check_scope(caller, model)
    budgets, _ = gateway.limits.of(caller, named_task(model))
    money = await left(gateway.db, budgets)
    decision = gateway.router.decide(asked.request, model, caller, asked.conversation, money, gateway.now())
    if caller.tasks and decision.task not in caller.tasks:
        found = f"'{decision.task}'" if decision.task else "none that is known"
        raise CallRefused(403, f"This key may only ask for some tasks; this request's is {found}.", "task_not_allowed")
    return decision


async def answer(gateway: Gateway, call: Call) -> AsyncGenerator[Event, None]:
    """What whoever answers says; who leaves it early closes it. Every attempt stands in the ledger before it is made.

    Raises `CallRefused` where a limit or a budget does not let it in, and `ProviderError` where nobody answers.
    """
    assert not isinstance(call.asked.request, EmbeddingRequest)
    answering = Answering(
        call.asked.request, call.decision.order, gateway.pool, gateway.breaker, gateway.config.failover,
        lambda attempt: write(gateway, call, attempt), partial(salted, gateway, call.caller.team),
    )  # fmt: skip
    call.attempts = answering.attempts
    async with aclosing(answering.events()) as events:
        async for event in events:
            if call.first_token is None and not isinstance(event, Begun):
                call.first_token = gateway.now() - call.started
            yield event


async def embed(gateway: Gateway, call: Call) -> Embedded:
    """The vectors, as `answer` gives an answer."""
    said_to = partial(salted, gateway, call.caller.team)
    return await embedded(gateway, call, lambda attempt: write(gateway, call, attempt), said_to)


def salted(gateway: Gateway, team: str, request: Salted, target: Target) -> Salted:
    """For a model of one's own, which knows all callers by one key: its cache of prefixes tells no team what another
    has asked (Song et al., "The Early Bird Catches the Leak", 2024)."""
    if not gateway.config.providers()[target.provider].is_inhouse:
        return request
    salt = sha256(f"{team}\0{request.cache_salt or ''}".encode("utf-8", "surrogatepass")).hexdigest()
    return request.model_copy(update={"cache_salt": salt})


async def write(gateway: Gateway, call: Call, attempt: Attempt) -> None:
    """An attempt, before it is made; with the first the call itself: its limits are taken, its money is reserved; with
    another what those before it may have cost as well."""
    if call.entry is None:
        call.entry = await ledger.open_call(gateway.db, gateway.replica.id, new_call(gateway, call), attempt)
        return

    async def written(entry: ledger.OpenCall) -> None:
        budgets, _ = gateway.limits.of(call.caller, call.decision.task)
        more = more_for(gateway, call, attempt, entry.reserve)
        call.entry = await ledger.open_attempt(gateway.db, entry, attempt, more, budgets)

    await ledger.to_its_end(asyncio.ensure_future(written(call.entry)))


async def settle(gateway: Gateway, call: Call) -> None:
    """Book what was used, give back what was reserved, and tell who watches."""
    del gateway.live[call.id]
    if call.entry is not None:
        end = ending(gateway, call)
        call.booked = end.attempts
        await ledger.settle(gateway.db, call.entry, end)
    if call.content is not None:
        await keep_content(gateway.db, call.id, call.caller, call.content)
    for observe in gateway.observers:
        observe(call)


def check_scope(caller: Caller, model: str) -> None:
    """Raises `CallRefused` where the key may not ask for this model, or for the task that it names."""
    task = named_task(model)
    if caller.models and not {model, AUTO if task else model} & {*caller.models}:
        raise CallRefused(403, f"This key may not ask for the model '{model[:100]}'.", "model_not_allowed")
    if caller.tasks and task and task not in caller.tasks:
        raise CallRefused(403, f"This key may not ask for the task '{task[:100]}'.", "task_not_allowed")


def named_task(model: str) -> str:
    """The task of "auto:TASK"; "" of all other names."""
    name, _, task = model.partition(":")
    return task if name == AUTO else ""
