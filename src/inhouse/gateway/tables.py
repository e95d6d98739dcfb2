"""What the verbs print of keys, spend, bills, drills and the audit log."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.spend.reconcile import Reconciliation
from inhouse.gateway.spend.report import Spending
from inhouse.gateway.store.keys import Key
from inhouse.gateway.types import NANO

_INSTANTS = ("at", "until", "ordered")  # of acts, seconds since 1970
_SHOWN = 50  # differences; the last line says how many more there are


def keys_table(keys: Sequence[Key]) -> Table:
    """Whose they are and what they may; an empty cell is all, or no limit."""
    drawn = _table("key", "team", "models", "tasks", "faces", "groups", "budget", "a minute", "since")
    for caller, created, revoked in keys:
        budget = "" if caller.budget is None else f"{caller.budget / NANO:,.2f} a {caller.budget_period}"
        rates = [f"{caller.requests_per_minute:,} requests"] * bool(caller.requests_per_minute)
        rates += [f"{caller.tokens_per_minute:,} tokens"] * bool(caller.tokens_per_minute)
        drawn.add_row(
            caller.key_id + " (admin)" * caller.is_admin, caller.team, *map(", ".join, caller[2:5]),
            ", ".join(caller.groups), budget, ", ".join(rates),
            say_instant(created) if revoked is None else f"revoked {say_instant(revoked)}",
        )  # fmt: skip
    return drawn


def spending_table(sums: Sequence[Spending], by: Sequence[str], currency: str) -> Table:
    """With the bounds of what no provider has said."""
    drawn = _table(
        *by, numbers=("calls", "tokens in", "cached", "written", "tokens out", currency, "at least", "at most")
    )
    for each in sums:
        bounds = ("", "") if each.is_exact else (_money(each.low), _money(each.high))
        counts = (each.calls, each.prompt, each.cached, each.written, each.completion)
        drawn.add_row(*each.of, *(f"{count:,}" for count in counts), _money(each.cost), *bounds)
    return drawn


def reconciliation_lines(found: Reconciliation, currency: str) -> Iterator[str]:
    """What agrees, what was settled, and everything that does not agree."""
    yield f"{found.matched:,} agree; {found.settled:,} estimates are exact now ({_money(found.change, '+')} {currency})"
    if found.unnamed:
        yield (
            f"{found.unnamed:,} estimates of these days are not on the bill and stay estimates; --complete says that "
            "the bill names everything, so that they cost nothing"
        )
    if found.still_open:
        yield f"{found.still_open:,} calls of these days are still under way: reconcile again later"
    for each in found.differences[:_SHOWN]:
        span = "" if each.low == each.high else f" ({_money(each.low)} to {_money(each.high)})"
        yield f"{each.what}: billed {_money(each.billed)}, booked {_money(each.booked)}{span}: {each.why}"
    if (more := len(found.differences) - _SHOWN) > 0:
        yield f"… and {more:,} more that do not agree"


def drills_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """The newest first."""
    drawn = _table("drill", "provider", "kind", "result")
    for drill in results:
        drawn.add_row(*drill_words(drill))
    return drawn


def drill_words(drill: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """When, whose end, how, and what came of it."""
    kind = f"cut for {drill['cut_seconds']} s" if drill["cut_seconds"] else "rehearsal"
    result = drill["result"] or {}
    money = {name: _money(result[name]) for name in ("cost", "cost_change") if result.get(name)}
    said = "under way" if drill["ended"] is None else _plain({**result, **money})
    return say_instant(drill["at"]), drill["provider"], kind, said


def audit_line(body: Mapping[str, Any]) -> str:
    """When, who, what."""
    return f"{say_instant(body['at'])}  {body['by']}  {body['what']}  {_plain(body['details'])}"


def _plain(value: Any) -> str:
    """What has parts as `name value`; what is empty is left out."""
    if isinstance(value, Mapping):
        said = {name: part for name, part in value.items() if part not in (None, "", [], 0, False)}
        return ", ".join(
            f"{name} {say_instant(part) if name in _INSTANTS and isinstance(part, float) else _plain(part)}"
            for name, part in said.items()
        )
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _money(nano: int, sign: str = "") -> str:
    return f"{nano / NANO:{sign},.6f}"


def _table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    drawn = Table(box=None, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for column in numbers:
        drawn.add_column(column, justify="right")
    return drawn
