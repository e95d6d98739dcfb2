"""What a call may use: how much money in which period, how many requests and tokens a minute; and what applies to whom."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from inhouse.gateway.types import NANO, Caller

Scope = Literal["all", "team", "key", "task"]
Period = Literal["day", "month", "once"]
Kind = Literal["requests", "tokens"]


class Budget(NamedTuple):
    """Money that all calls of a scope may cost together in each period (days and months of UTC; once: for good)."""

    scope: Scope
    name: str  # of the team, key or task; "" for all
    amount: int  # nano
    period: Period

    def meter(self, now: float) -> str:
        """The row that counts this budget at `now`: each period has its own."""
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        part = {"day": day, "month": day[:7], "once": "once"}[self.period]
        return f"{self.scope}/{self.name}/{part}"

    def __str__(self) -> str:
        whose = "of all calls" if self.scope == "all" else f"of {self.scope} {self.name}"
        return f"the budget {whose} ({money(self.amount)}{'' if self.period == 'once' else f' a {self.period}'})"


class Rate(NamedTuple):
    """A token bucket: `per_minute` flow in evenly, and as many are there at most (`burst`, where it is given)."""

    scope: Scope
    name: str
    kind: Kind
    per_minute: int
    burst: int = 0

    @property
    def meter(self) -> str:
        """The row that counts this bucket."""
        return f"{self.scope}/{self.name}/{self.kind}"

    @property
    def capacity(self) -> int:
        """The most that may be taken at once."""
        return self.burst or self.per_minute

    def __str__(self) -> str:
        whose = "of all calls" if self.scope == "all" else f"of {self.scope} {self.name}"
        return f"the limit {whose} of {self.per_minute:,} {self.kind} a minute"


class Limits:
    """All budgets and rates of a configuration, and those that keys carry: `Limits(budgets, rates).of(caller, task)`."""

    def __init__(self, budgets: Sequence[Budget] = (), rates: Sequence[Rate] = ()) -> None:
        self._budgets, self._rates = tuple(budgets), tuple(rates)

    def of(self, caller: Caller, task: str) -> tuple[tuple[Budget, ...], tuple[Rate, ...]]:
        """What applies to a call of this caller for this task."""
        names = {"all": "", "team": caller.team, "key": caller.key_id, "task": task}
        budgets = [budget for budget in self._budgets if names[budget.scope] == budget.name]
        rates = [rate for rate in self._rates if names[rate.scope] == rate.name]
        if caller.budget is not None:
            budgets.append(Budget("key", caller.key_id, caller.budget, caller.budget_period))
        if caller.requests_per_minute:
            rates.append(Rate("key", caller.key_id, "requests", caller.requests_per_minute))
        if caller.tokens_per_minute:
            rates.append(Rate("key", caller.key_id, "tokens", caller.tokens_per_minute))
        return tuple(budgets), tuple(rates)


def parse_budget(text: str) -> tuple[int, Period]:
    """`(nano, period)` of "500/month", "20/day" or "1000" (once). Raises `ValueError` with a sentence."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d{1,9})?)\s*(?:/\s*(day|month)\s*)?", text)
    if not found or len(text) > 30:
        raise ValueError(f'"{text[:30]}" is no budget: an amount, and how often it comes anew, as in 50/month, 2.5/day, 100')
    nano = int(Decimal(found[1]) * NANO)
    if not 0 < nano < 2**62:
        raise ValueError(f'a budget of "{text}": more than 0, and less than {2**62 // NANO:,}')
    return nano, found[2] or "once"  # type: ignore[return-value]  # the pattern knows no third


def money(nano: int) -> str:
    """An amount as people read it."""
    return f"{nano / NANO:,.2f}" if nano % (NANO // 100) == 0 else f"{nano / NANO:,.6f}"
