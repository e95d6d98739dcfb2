"""The ledger: a call is written before anybody is asked, and settled after it whatever happens. Rows are only added."""

import asyncio
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeVar

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.store.database import Database, Row, StoreDown, Transaction
from inhouse.gateway.store.limits import Budget, Rate
from inhouse.gateway.store.meters import Charges, Taking, book, changes, take, taking
from inhouse.gateway.store.postgres import procedures
from inhouse.gateway.types import Attempt, Caller, Face, Target

T = TypeVar("T")
Kind = Literal["settled", "estimated", "reconciled"]
_WAITS = tuple(min(10.0, 0.1 * 2**tried) for tried in range(36))  # seconds; five minutes in all
_NEW_ATTEMPT = "INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)"
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
    reserve: int  # nano, of all its attempts so far
    tokens_estimate: int


class Booked(NamedTuple):
    """An attempt that has ended, and what it cost: what the provider will ask lies between `low` and `high`."""

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
    def cost(self) -> int:
        """Nano, of all attempts."""
        return sum(booked.cost for booked in self.attempts)

    @property
    def tokens(self) -> int | None:
        """All that were used; None where an attempt that may have cost something never said."""
        if any(booked.attempt.usage is None and booked.high for booked in self.attempts):
            return None
        usages = [booked.attempt.usage for booked in self.attempts]
        return sum(usage.prompt + usage.completion for usage in usages if usage)


class StoredCall(NamedTuple):
    """A call as the ledger has it. `ending` is None while it is open."""

    call: OpenCall
    attempts: tuple[Attempt, ...]
    ending: Ending | None


def new_call_id() -> str:
    """128 random bits: a call's name in headers, logs and the ledger."""
    return f"call_{secrets.token_hex(16)}"


async def open_call(db: Database, replica: str, call: NewCall, first: Attempt) -> OpenCall:
    """Take from the buckets, reserve in the budgets, write the call and its first attempt: all in one transaction.

    Raises `CallRefused` (402 for money, 429 with the seconds to wait for rates); nothing is kept then. A caller that is
    cancelled meanwhile leaves no call open.
    """
    now = db.now()
    wanted = taking(call.budgets, call.rates, call.reserve, call.tokens_estimate, now)
    row = (
        call.id, now, call.caller.key_id, call.caller.team, plain(call.task), plain(call.asked), call.face,
        int(call.is_stream), call.decision, call.tokens_estimate, call.reserve, json.dumps(wanted.charges),
        plain(call.trace),
    )  # fmt: skip

    async def work(tx: Transaction) -> None:
        await take(tx, wanted)
        await tx.execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
        await tx.execute(_NEW_ATTEMPT, *_attempt_row(call.id, first))
        await tx.execute("INSERT INTO open_calls (call_id, replica) VALUES (?, ?)", call.id, replica)

    async def at_once() -> None:
        if rows := await procedures.open_call(db, wanted, row, _attempt_row(call.id, first), replica):
            wanted.check(rows)
            raise AssertionError("the procedure refuses what the meters have")

    opened = OpenCall(call.id, wanted.charges, call.reserve, call.tokens_estimate)
    task = asyncio.ensure_future(at_once() if db.has_procedures else db.run(work))
    try:
        await to_its_end(task)
    except asyncio.CancelledError:
        if not task.cancelled() and task.exception() is None:
            await settle(db, opened, Ending("client gone", 499, 0.0, None, ()))
        raise
    return opened


async def open_attempt(
    db: Database, call: OpenCall, attempt: Attempt, more: int = 0, budgets: Sequence[Budget] = ()
) -> OpenCall:
    """Write one more attempt of a call (the first stands with the call itself), before its provider is asked, and
    reserve `more` nano in the call's `budgets`. The call as it is then; nobody else has it, so who is cancelled waits
    for it (`to_its_end`). Raises `CallRefused` where the budgets do not have it; nothing is kept then."""
    now = db.now()

    async def work(tx: Transaction) -> OpenCall:
        sql = "SELECT call_id FROM open_calls WHERE call_id = ? ORDER BY call_id"
        reserve = more if more and await tx.fetch_locked(sql, call.id) else 0  # who was taken for dead has no reserve
        if reserve:
            wanted = dict(zip(call.charges.budgets, budgets, strict=True))  # of the time when the call began
            await take(tx, Taking(wanted, {}, {}, reserve, now))
        await tx.execute(_NEW_ATTEMPT, *_attempt_row(call.id, attempt, reserve))
        return call._replace(reserve=call.reserve + reserve)

    return await db.run(work)


async def settle(db: Database, call: OpenCall, ending: Ending, kind: Kind = "settled") -> bool:
    """Release what was reserved and book what was spent, in one transaction, even where the caller is cancelled.

    A call that was settled before gets one more revision, and the budgets the difference: what comes late, or is exact
    where the first was an estimate, is never booked twice. An estimate does not follow on anything, nor does what the
    gateway saw follow on the provider's bill. A store that is down is waited for, some minutes; then `StoreDown`.
    Returns whether anything was written.
    """
    used = ending.tokens
    more_tokens = 0 if used is None else used - call.tokens_estimate
    first = changes(call.charges, ending.cost, call.reserve, more_tokens)

    async def work(tx: Transaction) -> bool:
        now, revision, changed = db.now(), 1, first
        if await tx.execute("DELETE FROM open_calls WHERE call_id = ?", call.id) == 0:
            before = await _latest(tx, call.id)
            if kind == "estimated" or (kind == "settled" and before["kind"] == "reconciled"):
                return False
            revision = before["revision"] + 1
            changed = changes(call.charges, ending.cost - before["cost"], 0, 0)
        settlement, costs = _settlement_rows(call.id, revision, now, kind, ending)
        await tx.execute("INSERT INTO settlements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *settlement)
        await tx.execute_many("INSERT INTO costs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", costs)
        await book(tx, changed, now)
        return True

    async def at_once() -> bool:
        now = db.now()
        rows = _settlement_rows(call.id, 1, now, kind, ending)
        return await procedures.settle_call(db, *rows, first, now) or await db.run(work)

    for wait in _WAITS:
        with suppress(StoreDown):
            return await to_its_end(asyncio.ensure_future(at_once() if db.has_procedures else db.run(work)))
        await asyncio.sleep(wait)
    return await db.run(work)


async def load_call(tx: Transaction, call_id: str) -> StoredCall:
    """A call of the ledger, with the latest revision of its end. Raises `ValueError` where there is none."""
    calls = await tx.fetch("SELECT id, charges, reserve, tokens_estimate FROM calls WHERE id = ?", call_id)
    if not calls:
        raise ValueError(f"the ledger has no call {plain(call_id)}")
    attempts = await tx.fetch("SELECT * FROM attempts WHERE call_id = ? ORDER BY number", call_id)
    settled = await tx.fetch("SELECT * FROM settled WHERE call_id = ?", call_id)
    costs = settled and await tx.fetch(
        "SELECT * FROM costs WHERE call_id = ? AND revision = ? ORDER BY number", call_id, settled[0]["revision"]
    )
    budgets, tokens = json.loads(calls[0]["charges"])
    charges = Charges(tuple(budgets), tuple((name, flow) for name, flow in tokens))
    by_number = {
        row["number"]: Attempt(row["number"], Target(row["provider"], row["model"], row["upstream"]), row["started"])
        for row in attempts
    }
    return StoredCall(
        OpenCall(
            call_id, charges, calls[0]["reserve"] + sum(row["reserve"] for row in attempts), calls[0]["tokens_estimate"]
        ),
        tuple(by_number.values()),
        _ending(settled[0], costs, by_number) if settled else None,
    )


def plain(text: str) -> str:
    """Text of a client's, as both stores can hold it: no half characters, no NUL, not without end."""
    return text[:_LONGEST_NAME].encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def _attempt_row(call_id: str, attempt: Attempt, reserve: int = 0) -> tuple[Any, ...]:
    return call_id, attempt.number, *attempt.target, attempt.started, reserve


async def _latest(tx: Transaction, call_id: str) -> Row:
    """The newest settlement of a call that was settled before; nobody adds another meanwhile."""
    if not await tx.fetch_locked("SELECT id FROM calls WHERE id = ? ORDER BY id", call_id):
        raise ValueError(f"the ledger has no call {plain(call_id)}")
    return (await tx.fetch("SELECT revision, kind, cost FROM settled WHERE call_id = ?", call_id))[0]


def _settlement_rows(
    call_id: str, revision: int, now: float, kind: Kind, ending: Ending
) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The row of `settlements`, and those of `costs`."""
    low, high = (sum(getattr(booked, name) for booked in ending.attempts) for name in ("low", "high"))
    settlement = (
        call_id, revision, now, kind, ending.outcome, ending.status, ending.seconds, ending.first_token, ending.cost,
        low, high,
    )  # fmt: skip
    costs = []
    for attempt, price, cost, low, high in ending.attempts:
        usage = attempt.usage or (None,) * len(Usage._fields)
        costs.append(
            (call_id, revision, attempt.number, attempt.outcome, attempt.seconds, *usage[:4], int(attempt.is_estimate),
             price, cost, low, high, *usage[4:])
        )  # fmt: skip
    return settlement, costs


def _ending(settled: Row, costs: Sequence[Row], attempts: dict[int, Attempt]) -> Ending:
    """What the rows say, their figures put into the attempts as well."""
    booked = []
    for row in costs:
        attempt = attempts[row["number"]]
        attempt.outcome, attempt.seconds, attempt.is_estimate = row["outcome"], row["seconds"], bool(row["is_estimate"])
        if row["prompt"] is not None:
            attempt.usage = Usage(*(row[name] or 0 for name in Usage._fields))  # of earlier rows some are null
        booked.append(Booked(attempt, row["price"], row["cost"], row["low"], row["high"]))
    return Ending(settled["outcome"], settled["status"], settled["seconds"], settled["first_token"], tuple(booked))


async def to_its_end(task: "asyncio.Future[T]") -> T:
    """What a task gives, which goes on where the caller is cancelled; the caller waits for its end even then."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise
