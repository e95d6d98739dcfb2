"""Spending and reconciliation as people read them."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from inhouse.gateway.spend.reconcile import Difference, Reconciliation
from inhouse.gateway.spend.report import Spending
from inhouse.gateway.store.limits import money

_SHOWN = 50  # differences; the sentence says how many more there are


def spending_table(sums: Iterable[Spending], by: Sequence[str], currency: str) -> Table:
    """A line a group; where a provider has not said what was used, the bounds of its bill stand beside the cost."""
    table = Table(*by, show_edge=False, pad_edge=False)
    for name in ("calls", "prompt", "cached", "completion", "thinking", currency, "between"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in sums:
        counts = (each.calls, each.prompt, each.cached, each.completion, each.thinking)
        between = "" if each.is_exact else f"{money(each.low)} and {money(each.high)}"
        table.add_row(*(name or "-" for name in each.of), *(f"{n:,}" for n in counts), money(each.cost), between)
    return table


def reconciliation_lines(found: Reconciliation, currency: str) -> list[str]:
    """What agreed, what became exact, and everything that does not agree."""
    lines = [
        f"{found.matched:,} lines of the bill agree with the ledger; {found.settled:,} estimates are exact now "
        f"({'+' if found.change >= 0 else '-'}{money(abs(found.change))} {currency})"
    ]
    if found.still_open:
        lines.append(f"calls of these days that are still open, and in no sum yet: {found.still_open:,}")
    lines += [_said(each, currency) for each in found.differences[:_SHOWN]]
    if (more := len(found.differences) - _SHOWN) > 0:
        lines.append(f"… and {more:,} more that do not agree")
    return lines


def _said(difference: Difference, currency: str) -> str:
    booked = money(difference.booked)
    if difference.low != difference.high:
        booked += f", between {money(difference.low)} and {money(difference.high)}"
    return f"{difference.what}: billed {money(difference.billed)} {currency}, booked {booked}: {difference.why}"
