"""The ledger: a call is written before anybody is asked, and settled after it whatever happens. Rows are only added."""

import asyncio
import json
import secrets
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.store.limits import Budget, Rate
from inhouse.gateway.store.meters import Charges, book, take
from inhouse.gateway.types import Attempt, Caller, Face

T = TypeVar("T")
Kind = Literal["settled", "estimated", "reconciled"]
_LONGEST_NAME = 200  # characters of what a client may have made up


class NewCall(NamedTuple):
    """What is known of a call before anybody is asked."""

    id: str
    caller: Caller
    task: str
    asked: str  # the model, as the request names it
    decision: str  # JSON
    face: Face
    is_stream: bool
    budgets: tuple[Budget, ...]  # `Limits.of(caller, task)`
    rates: tuple[Rate, ...]
    tokens_estimate: int  # prompt and answer, the most that is likely
    reserve: int  # nano, the most that it may cost
    trace: str = ""  # W3C traceparent, where the client sent one


class OpenCall(NamedTuple):
    """A call that is written and not settled yet."""

    id: str
    charges: Charges
    reserve: int
    tokens_estimate: int


class Booked(NamedTuple):
    """An attempt that has ended, and what it cost: `low` and `high` hold what the provider will ask, whatever that is."""

    attempt: Attempt
    price: str  # version of the price list
    cost: int  # nano
    low: int
    high: int


class Ending(NamedTuple):
    """How a call ended."""

    outcome: str  # "answered", "client gone", "abandoned", or the kind of error that the client got
    status: int  # of HTTP
    seconds: float
    first_token: float | None  # seconds
    attempts: tuple[Booked, ...]

    @property
    def tokens(self) -> int:
        """All that were used, as far as anybody said."""
        usages = [booked.attempt.usage for booked in self.attempts]
        return sum(usage.prompt + usage.completion for usage in usages if usage)


def new_call_id() -> str:
    """128 random bits: a call's name in headers, logs and the ledger."""
    return f"call_{secrets.token_hex(16)}"


async def open_call(db: Database, replica: str, call: NewCall, first: Attempt) -> OpenCall:
    """Take from the buckets, reserve in the budgets, write the call and its first attempt: all in one transaction.

    Raises `CallRefused` (402 for money, 429 with the seconds to wait for rates); nothing is kept then. A caller that is
    cancelled meanwhile leaves no call open.
    """

    async def work(tx: Transaction) -> OpenCall:
        now = db.now()
        await _insert_attempt(tx, call.id, first)
        await tx.execute("INSERT INTO open_calls (call_id, replica) VALUES (?, ?)", call.id, replica)
        # rows that others wait for come last, so that they are held for two statements only
        charges = await take(tx, call.budgets, call.rates, call.reserve, call.tokens_estimate, now)
        await tx.execute(
            "INSERT INTO calls (id, at, key_id, team, task, asked, face, is_stream, decision, tokens_estimate, reserve, "
            "charges, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            call.id, now, call.caller.key_id, call.caller.team, call.task, plain(call.asked), call.face,
            int(call.is_stream), call.decision, call.tokens_estimate, call.reserve, json.dumps(charges),
            plain(call.trace),
        )  # fmt: skip
        return OpenCall(call.id, charges, call.reserve, call.tokens_estimate)

    task = asyncio.ensure_future(db.run(work))
    try:
        return await _to_its_end(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await settle(db, task.result(), Ending("client gone", 499, 0.0, None, ()))
        raise


async def open_attempt(db: Database, call_id: str, attempt: Attempt) -> None:
    """Write one more attempt of a call (the first stands with the call itself), before its provider is asked."""
    await db.run(lambda tx: _insert_attempt(tx, call_id, attempt))


async def settle(db: Database, call: OpenCall, ending: Ending, kind: Kind = "settled") -> None:
    """Release what was reserved and book what was spent, in one transaction, even where the caller is cancelled.

    A call that was settled before gets one more revision, and the budgets the difference: what is late, or exact where
    the first was an estimate, is never booked twice.
    """

    async def work(tx: Transaction) -> None:
        cost = sum(booked.cost for booked in ending.attempts)
        low, high = (sum(getattr(booked, side) for booked in ending.attempts) for side in ("low", "high"))
        is_first = await tx.execute("DELETE FROM open_calls WHERE call_id = ?", call.id) == 1
        revision, before, tokens_before = (1, 0, call.tokens_estimate) if is_first else await _latest(tx, call)
        await tx.execute(
            "INSERT INTO settlements (call_id, revision, at, kind, outcome, status, seconds, first_token, cost, low, high) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            call.id, revision, db.now(), kind, ending.outcome, ending.status, ending.seconds, ending.first_token, cost,
            low, high,
        )  # fmt: skip
        await tx.execute_many(
            "INSERT INTO costs (call_id, revision, number, outcome, seconds, prompt, cached, completion, thinking, "
            "is_estimate, price, cost, low, high) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_cost_row(call.id, revision, booked) for booked in ending.attempts],
        )
        tokens = ending.tokens - tokens_before
        await book(tx, call.charges, cost - before, call.reserve if is_first else 0, tokens)

    await _to_its_end(asyncio.ensure_future(db.run(work)))


async def load_call(tx: Transaction, call_id: str) -> tuple[OpenCall, list[Attempt]]:
    """A call of the ledger and the attempts that were opened for it. Raises `ValueError` where there is none."""
    raise NotImplementedError


def plain(text: str) -> str:
    """Text of a client's, as both stores can hold it: no half characters, no NUL, not without end."""
    return text[:_LONGEST_NAME].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


async def _insert_attempt(tx: Transaction, call_id: str, attempt: Attempt) -> None:
    await tx.execute(
        "INSERT INTO attempts (call_id, number, provider, model, upstream, started) VALUES (?, ?, ?, ?, ?, ?)",
        call_id, attempt.number, *attempt.target, attempt.started,
    )  # fmt: skip
