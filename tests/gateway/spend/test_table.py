"""What is printed of sums and of a bill."""

from rich.console import Console

from inhouse.gateway.spend.bill import Line
from inhouse.gateway.spend.reconcile import Difference, Reconciliation
from inhouse.gateway.spend.report import Spending
from inhouse.gateway.spend.table import reconciliation_lines, spending_table


def test_an_estimate_is_shown_with_its_bounds() -> None:
    exact = Spending(("docs", ""), 1200, 10, 0, 5, 0, 2_500_000_000, 2_500_000_000, 2_500_000_000)
    console = Console(width=120)
    with console.capture() as seen:
        console.print(spending_table([exact, exact._replace(low=0)], ("team", "task"), "USD"))
    first, second = seen.get().splitlines()[-2:]
    assert "docs" in first and "1,200" in first and "2.50" in first and "between" not in first and "and" not in first
    assert "0.00 and 2.50" in second


def test_a_bill_is_told_line_by_line() -> None:
    gap = Difference(
        Line("", "2026-11-30", "big"), 5_000_000_000, 1_000_000_000, 0, 2_000_000_000, "the bill asks more"
    )
    lines = reconciliation_lines(Reconciliation(3, 2, -500_000_000, 1, (gap,) * 60), "USD")
    assert lines[0] == "3 lines of the bill agree with the ledger; 2 estimates are exact now (-0.50 USD)"
    assert lines[1].endswith("in no sum yet: 1")
    assert lines[2] == "big on 2026-11-30: billed 5.00 USD, booked 1.00, between 0.00 and 2.00: the bill asks more"
    assert lines[-1] == "… and 10 more that do not agree"
