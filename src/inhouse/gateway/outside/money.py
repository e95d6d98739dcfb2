"""What the page shows of money: sums of this month, budgets and how much of them is used, the last days."""

from datetime import UTC, datetime, timedelta
from typing import Any

from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.settings import parse_amount
from inhouse.gateway.spend.report import By, spending
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.limits import Budget, money
from inhouse.gateway.types import NANO

_DAYS = 30
_ROWS = 12  # of a table: the dearest


def month_start(now: float) -> float:
    """The first instant of this month in UTC."""
    return datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


async def sums_of(db: Database, by: By | None, since: float) -> list[dict[str, Any]]:
    """The dearest first, each with its share of the dearest; of everything together without `by`."""
    sums = await spending(db, (by,) if by else (), since)
    most = max((each.cost for each in sums), default=0)
    rows = [
        {
            "name": "".join(each.of) or "unknown", "calls": each.calls,
            "tokens": each.prompt + each.completion, "cost": f"{each.cost / NANO:,.4f}",
            "bounds": "" if each.is_exact else f"{each.low / NANO:,.4f} to {each.high / NANO:,.4f}",
            "share": 100 * each.cost / most if most else 0.0,
        }
        for each in sums
    ]  # fmt: skip
    return rows[:_ROWS]


async def budgets_of(db: Database, config: GatewayConfig, now: float) -> list[dict[str, Any]]:
    """Each with what of it is spent and what calls under way hold back."""
    found = []
    for settings in config.budget:
        budget = Budget(*parse_amount(settings.amount), settings.team, settings.key, settings.task)
        rows = await db.read("SELECT spent, reserved FROM meters WHERE name = ?", budget.meter(now))
        spent, reserved = (rows[0]["spent"], rows[0]["reserved"]) if rows else (0, 0)
        whose = ", ".join(name for name in (settings.team, settings.key, settings.task) if name) or "all calls"
        found.append(
            {
                "whose": whose, "amount": f"{money(budget.amount)} a {budget.period}",
                "spent": f"{spent / NANO:,.4f}", "reserved": f"{reserved / NANO:,.4f}",
                "share": min(100.0, 100 * spent / budget.amount) if budget.amount else 100.0,
                "held": min(100.0, 100 * (spent + reserved) / budget.amount) if budget.amount else 100.0,
            }
        )  # fmt: skip
    return found


async def days_of(db: Database, now: float) -> list[dict[str, Any]]:
    """The last days, today last; those without a call too. `height` of the dearest is 100."""
    today = datetime.fromtimestamp(now, UTC).date()
    first = today - timedelta(days=_DAYS - 1)
    since = datetime(first.year, first.month, first.day, tzinfo=UTC).timestamp()
    costs = {each.of[0]: each.cost for each in await spending(db, ("day",), since)}
    most = max(costs.values(), default=0)
    days = [(first + timedelta(days=n)).isoformat() for n in range(_DAYS)]
    return [
        {
            "day": day, "cost": f"{costs.get(day, 0) / NANO:,.4f}",
            "height": 100 * costs.get(day, 0) / most if most else 0.0,
        }
        for day in days
    ]  # fmt: skip
