from tests.gateway.store.conftest import START

from inhouse.gateway.store.limits import Budget, Limits, Rate, money
from inhouse.gateway.types import NANO, Caller

ALL, TEAM, BOTH = Budget(9, "month"), Budget(8, "month", team="docs"), Budget(7, "day", team="docs", task="code")
OTHER = Budget(6, "month", key="other")


def test_what_applies_to_a_call() -> None:
    limits = Limits([ALL, TEAM, BOTH, OTHER], [Rate("team", "docs", "requests", 5), Rate("team", "web", "requests", 5)])
    caller = Caller("docs-1", "docs", budget=4, tokens_per_minute=100)
    budgets, rates = limits.of(caller, "code")
    assert set(budgets) == {ALL, TEAM, BOTH, Budget(4, "month", key="docs-1")}
    assert set(rates) == {Rate("team", "docs", "requests", 5), Rate("key", "docs-1", "tokens", 100)}
    assert set(limits.of(Caller("x", "web"), "code")[0]) == {ALL}
    assert set(limits.of(Caller("other", "docs"), "")[0]) == {ALL, TEAM, OTHER}


def test_of_two_for_the_same_the_tighter_counts() -> None:
    limits = Limits([Budget(5, "month", key="k")], [Rate("key", "k", "requests", 5)])
    assert limits.of(Caller("k", "t", budget=6, requests_per_minute=4), "") == (
        (Budget(5, "month", key="k"),), (Rate("key", "k", "requests", 4),)
    )  # fmt: skip


def test_each_period_and_each_scope_has_its_own_meter() -> None:
    assert BOTH.meter(START) == "budget|team docs|task code|2027-01-15"
    assert ALL.meter(START) == "budget|2027-01"
    meters = {budget.meter(START + days * 86_400) for budget in (ALL, TEAM, BOTH, OTHER) for days in (0, 1, 31)}
    assert len(meters) == 3 * 2 + 3


def test_money_is_written_for_people() -> None:
    assert money(1_234 * NANO + NANO // 2) == "1,234.50"
    assert money(1_500) == "0.000002"
