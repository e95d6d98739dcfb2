"""Counting what calls use: money against budgets, requests and tokens against token buckets, nobody admitted too many.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371): taking
moves it on, time passes by itself. So a bucket survives restarts; a clock that is set forward or far back lets one
bucket too many through, one that is set back by less holds calls back for two minutes at most.
"""

from collections.abc import Sequence
from typing import NamedTuple

from inhouse.gateway.store.database import Database, Row, Transaction
from inhouse.gateway.store.limits import Budget, Rate, money
from inhouse.gateway.types import CallRefused

_FULL_SECONDS = 60.0  # in which an empty bucket fills: it holds what flows in in a minute
_DEBT_SECONDS = 120.0  # the longest until a bucket is full again, after calls that used more than was thought
_SLACK_SECONDS = 1.0  # between the clocks of replicas
_ROUNDING = 1e-4  # seconds: a time of today has a tenth of a microsecond


class Charges(NamedTuple):
    """Where a call is charged: the meters of its budgets, and those of its buckets of tokens with their flow per s."""

    budgets: tuple[str, ...]
    tokens: tuple[tuple[str, float], ...]


async def take(
    tx: Transaction, budgets: Sequence[Budget], rates: Sequence[Rate], reserve: int, tokens: int, now: float
) -> Charges:
    """Reserve money in all budgets and take one request and `tokens` from all buckets, or raise `CallRefused`."""
    of_budget = {budget.meter(now): budget for budget in budgets}
    of_rate = {rate.meter: rate for rate in rates}
    rows = await _locked(tx, sorted([*of_budget, *of_rate]))
    amounts = {name: 1 if rate.kind == "requests" else tokens for name, rate in of_rate.items()}
    ahead = {name: _ahead(rows[name], now) for name in of_rate}
    for name, budget in of_budget.items():
        _check_budget(budget, rows[name], reserve)
    _check_rates([(rate, ahead[name], amounts[name]) for name, rate in of_rate.items()])
    await tx.execute_many(
        "UPDATE meters SET reserved = reserved + ?, full_at = ? WHERE name = ?",
        [(reserve, 0.0, name) for name in of_budget]
        + [
            (0, now + ahead[name] + amounts[name] * _FULL_SECONDS / rate.per_minute, name)
            for name, rate in of_rate.items()
        ],
    )
    flows = [(name, rate.per_minute / _FULL_SECONDS) for name, rate in of_rate.items() if rate.kind == "tokens"]
    return Charges(tuple(of_budget), tuple(flows))


async def book(tx: Transaction, charges: Charges, spent: int, released: int, tokens: int, now: float) -> None:
    """Spend money and release what was reserved for it; `tokens` is how many more (or fewer) were used than taken."""
    changes = [(name, spent, released, 0.0) for name in charges.budgets if spent or released]
    changes += [(name, 0, 0, tokens / flow) for name, flow in charges.tokens if tokens]
    latest = now + _DEBT_SECONDS
    await tx.execute_many(
        "UPDATE meters SET spent = spent + ?, reserved = reserved - ?, "
        "full_at = CASE WHEN full_at + ? < ? THEN full_at + ? ELSE ? END WHERE name = ?",
        [(spent, released, later, latest, later, latest, name) for name, spent, released, later in sorted(changes)],
    )


async def left(db: Database, budgets: Sequence[Budget]) -> int | None:
    """Nano that the tightest of these budgets has left; None where there is no budget."""
    names = {budget.meter(db.now()): budget.amount for budget in budgets}
    if not names:
        return None
    rows = await db.look_up(_select(len(names)), *sorted(names))
    used = {row["name"]: row["spent"] + row["reserved"] for row in rows}
    return max(0, min(amount - used.get(name, 0) for name, amount in names.items()))


def _select(count: int) -> str:
    return f"SELECT name, spent, reserved, full_at FROM meters WHERE name IN ({', '.join('?' * count)}) ORDER BY name"


async def _locked(tx: Transaction, names: Sequence[str]) -> dict[str, Row]:
    """The rows of these meters, which are sorted, made where missing: nobody else changes them meanwhile."""
    if not names:
        return {}
    rows = await tx.fetch_locked(_select(len(names)), *names)
    if len(rows) < len(names):
        await tx.execute_many(
            "INSERT INTO meters (name, spent, reserved, full_at) VALUES (?, 0, 0, 0) ON CONFLICT (name) DO NOTHING",
            [(name,) for name in names],
        )
        rows = await tx.fetch_locked(_select(len(names)), *names)
    return {row["name"]: row for row in rows}


def _ahead(row: Row, now: float) -> float:
    """Seconds until a bucket is full again. Longer than there is, and the clock was set back: it counts as full."""
    ahead = max(0.0, row["full_at"] - now)
    return ahead if ahead <= _DEBT_SECONDS + _SLACK_SECONDS else 0.0


def _check_budget(budget: Budget, row: Row, reserve: int) -> None:
    free = budget.amount - row["spent"] - row["reserved"]
    if reserve > free:
        raise CallRefused(
            402,
            f"{budget} has {money(max(0, free))} left ({money(row['spent'])} spent, {money(row['reserved'])} reserved "
            f"by calls under way); this call may cost {money(reserve)}",
            "insufficient_quota",
        )


def _check_rates(taken: Sequence[tuple[Rate, float, int]]) -> None:
    """Raises for the bucket that takes longest to hold what is asked of it."""
    worst: tuple[float, Rate] | None = None
    for rate, ahead, amount in taken:
        if amount > rate.per_minute:
            raise CallRefused(
                429, f"{rate} never holds the {amount:,} that this call may use: ask for fewer", "rate_limit_exceeded"
            )
        wait = ahead + amount * _FULL_SECONDS / rate.per_minute - _FULL_SECONDS
        if wait > _ROUNDING and (worst is None or wait > worst[0]):
            worst = wait, rate
    if worst is not None:
        wait, rate = worst
        raise CallRefused(429, f"{rate} is reached; try again in {wait:.1f} s", "rate_limit_exceeded", wait)
