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

FULL_SECONDS = 60.0  # in which an empty bucket fills: it holds what flows in in a minute
DEBT_SECONDS = 120.0  # the longest until a bucket is full again, after calls that used more than was thought
SLACK_SECONDS = 1.0  # between the clocks of replicas
ROUNDING = 1e-4  # seconds: a time of today has a tenth of a microsecond


class Charges(NamedTuple):
    """Where a call is charged: the meters of its budgets, and those of its buckets of tokens with their flow per s."""

    budgets: tuple[str, ...]
    tokens: tuple[tuple[str, float], ...]


class Taking(NamedTuple):
    """What one call wants to take at `now`: of each budget the reserve, of each bucket one request, or its tokens."""

    budgets: dict[str, Budget]  # by meter
    rates: dict[str, Rate]
    amounts: dict[str, int]
    reserve: int
    now: float

    @property
    def charges(self) -> Charges:
        """Where it is charged, if it may."""
        flows = [(name, rate.per_minute / FULL_SECONDS) for name, rate in self.rates.items() if rate.kind == "tokens"]
        return Charges(tuple(self.budgets), tuple(flows))

    def check(self, rows: dict[str, Row]) -> None:
        """Raises `CallRefused` where the meters do not have it."""
        for name, budget in self.budgets.items():
            _check_budget(budget, rows[name], self.reserve)
        _check_rates([(rate, self.ahead(rows[name]), self.amounts[name]) for name, rate in self.rates.items()])

    def ahead(self, row: Row) -> float:
        """Seconds until a bucket is full again. Longer than there is, and the clock was set back: it counts as full."""
        ahead = max(0.0, row["full_at"] - self.now)
        return ahead if ahead <= DEBT_SECONDS + SLACK_SECONDS else 0.0


def taking(budgets: Sequence[Budget], rates: Sequence[Rate], reserve: int, tokens: int, now: float) -> Taking:
    """Of a call to which these budgets and rates apply."""
    of_rate = {rate.meter: rate for rate in rates}
    amounts = {name: 1 if rate.kind == "requests" else tokens for name, rate in of_rate.items()}
    return Taking({budget.meter(now): budget for budget in budgets}, of_rate, amounts, reserve, now)


async def take(tx: Transaction, wanted: Taking) -> None:
    """Reserve the money and take from the buckets, or raise `CallRefused`."""
    rows = await _locked(tx, sorted([*wanted.budgets, *wanted.rates]))
    wanted.check(rows)
    later = {
        name: wanted.now + wanted.ahead(rows[name]) + wanted.amounts[name] * FULL_SECONDS / rate.per_minute
        for name, rate in wanted.rates.items()
    }
    await tx.execute_many(
        "UPDATE meters SET reserved = reserved + ?, full_at = ? WHERE name = ?",
        [(wanted.reserve, 0.0, name) for name in wanted.budgets] + [(0, at, name) for name, at in later.items()],
    )


Change = tuple[str, int, int, float]  # a meter, nano that are spent, nano that are released, seconds


def changes(charges: Charges, spent: int, released: int, tokens: int) -> list[Change]:
    """What the meters of a call change by at its end; `tokens` is how many more (or fewer) it used than it took."""
    found: list[Change] = [(name, spent, released, 0.0) for name in charges.budgets if spent or released]
    return found + [(name, 0, 0, tokens / flow) for name, flow in charges.tokens if tokens]


async def book(tx: Transaction, changed: Sequence[Change], now: float) -> None:
    """Change meters."""
    latest = now + DEBT_SECONDS
    await _locked(tx, sorted(name for name, *_ in changed))
    await tx.execute_many(
        "UPDATE meters SET spent = spent + ?, reserved = reserved - ?, "
        "full_at = CASE WHEN full_at + ? < ? THEN full_at + ? ELSE ? END WHERE name = ?",
        [(spent, released, later, latest, later, latest, name) for name, spent, released, later in changed],
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
        wait = ahead + amount * FULL_SECONDS / rate.per_minute - FULL_SECONDS
        if wait > ROUNDING and (worst is None or wait > worst[0]):
            worst = wait, rate
    if worst is not None:
        wait, rate = worst
        raise CallRefused(429, f"{rate} is reached; try again in {wait:.1f} s", "rate_limit_exceeded", wait)
