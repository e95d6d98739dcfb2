"""Calls as the tests of the store make them."""

from tests.gateway.store.conftest import START

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import Booked, Ending, NewCall, new_call_id
from inhouse.gateway.store.limits import Budget, Rate
from inhouse.gateway.types import NANO, Attempt, Caller, Target

CALLER = Caller("docs-1", "docs")
TARGET = Target("acme", "large", "acme-large-3")
BUDGET = Budget(10 * NANO, "month", team="docs")


def call(reserve: int = NANO, budgets: tuple[Budget, ...] = (BUDGET,), rates: tuple[Rate, ...] = ()) -> NewCall:
    return NewCall(
        new_call_id(), CALLER, "product/code", "auto", "{}", "chat", True, budgets, rates, tokens_estimate=100,
        reserve=reserve,
    )  # fmt: skip


def attempt(number: int = 1, usage: Usage | None = None) -> Attempt:
    return Attempt(number, TARGET, START, seconds=1.5, outcome="answered", usage=usage)


def ending(cost: int, number: int = 1) -> Ending:
    booked = Booked(attempt(number, Usage(40, 10, 20, 5)), "2026-11", cost, cost, cost)
    return Ending("answered", 200, 2.0, 0.4, (booked,))


async def meters(db: Database) -> list[tuple[int, int]]:
    rows = await db.read("SELECT spent, reserved FROM meters WHERE name LIKE 'budget%' ORDER BY name")
    return [(row["spent"], row["reserved"]) for row in rows]
