"""What a call may use: money in a day or month, requests and tokens in a minute; and what of that applies to whom."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from inhouse.gateway.types import NANO, Caller


class Budget(NamedTuple):
    """Money that calls may cost together in each day or month of UTC: those of a team, of a key, for a task; where
    several are given, those for which all is so."""

    amount: int  # nano
    period: Literal["day", "month"]
    team: str | None = None
    key: str | None = None
    task: str | None = None

    def is_of(self, caller: Caller, task: str) -> bool:
        """Whether a call of this caller for this task is paid from it."""
        return all(
            wanted is None or wanted == found
            for wanted, found in ((self.team, caller.team), (self.key, caller.key_id), (self.task, task))
        )

    def meter(self, now: float) -> str:
        """The row that counts this budget at `now`: each period has its own."""
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        return "|".join(["budget", *self._whose(), day if self.period == "day" else day[:7]])

    def __str__(self) -> str:
        whose = " and ".join(self._whose()) or "all calls"
        return f"the budget of {whose} ({money(self.amount)} a {self.period})"

    def _whose(self) -> list[str]:
        named = (("team", self.team), ("key", self.key), ("task", self.task))
        return [f"{what} {name}" for what, name in named if name is not None]


class Rate(NamedTuple):
    """A token bucket: `per_minute` flow in evenly, and as many are there at most."""

    scope: Literal["team", "key"]
    name: str
    kind: Literal["requests", "tokens"]
    per_minute: int

    @property
    def meter(self) -> str:
        """The row that counts this bucket."""
        return f"{self.kind}|{self.scope} {self.name}"

    def __str__(self) -> str:
        return f"the limit of {self.scope} {self.name} ({self.per_minute:,} {self.kind} a minute)"


class Limits:
    """Budgets and rates of a configuration, and those that keys carry: `Limits(budgets, rates).of(caller, task)`."""

    def __init__(self, budgets: Sequence[Budget] = (), rates: Sequence[Rate] = ()) -> None:
        self._budgets, self._rates = tuple(budgets), tuple(rates)

    def of(self, caller: Caller, task: str) -> tuple[tuple[Budget, ...], tuple[Rate, ...]]:
        """What applies to a call of this caller for this task; of two for one and the same, the tighter."""
        budgets = [budget for budget in self._budgets if budget.is_of(caller, task)]
        if caller.budget is not None:
            budgets.append(Budget(caller.budget, caller.budget_period, key=caller.key_id))
        names = {"team": caller.team, "key": caller.key_id}
        rates = [rate for rate in self._rates if names[rate.scope] == rate.name]
        if caller.requests_per_minute:
            rates.append(Rate("key", caller.key_id, "requests", caller.requests_per_minute))
        if caller.tokens_per_minute:
            rates.append(Rate("key", caller.key_id, "tokens", caller.tokens_per_minute))
        tightest_budgets = {budget[1:]: budget for budget in sorted(budgets, key=lambda budget: -budget.amount)}
        tightest_rates = {rate[:3]: rate for rate in sorted(rates, key=lambda rate: -rate.per_minute)}
        return tuple(tightest_budgets.values()), tuple(tightest_rates.values())


def money(nano: int) -> str:
    """An amount as people read it."""
    return f"{nano / NANO:,.2f}" if nano % (NANO // 100) == 0 else f"{nano / NANO:,.6f}"
