"""The provider's bill against the ledger: estimates become what was billed, everything else that differs is said.

What the provider said of its use when it answered is exact, and so is the bill: where these two differ, somebody is
wrong, and nothing is changed. Estimates take what the bill leaves beside the exact rows, where it lies within their
bounds: each by its call, or all of a model and a day together, from their guesses towards their bounds.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from inhouse.gateway.spend.bill import Bill, Line
from inhouse.gateway.store.database import Database, Row, Transaction
from inhouse.gateway.store.ledger import Booked, StoredCall, load_call, settle

_DAY = 86_400


class Difference(NamedTuple):
    """What the bill and the ledger do not agree on, in nano-units."""

    what: Line
    billed: int
    booked: int
    low: int  # what the ledger holds possible
    high: int
    why: str


class Reconciliation(NamedTuple):
    """`matched` things of the bill agree with the ledger; `settled` estimates were made exact, at `change`; `unnamed`
    ones are not on the bill and stay as they are."""

    matched: int
    settled: int
    change: int
    unnamed: int
    still_open: int  # calls under way in the bill's days, which no sum holds yet
    differences: tuple[Difference, ...]


async def reconcile(
    db: Database, bill: Bill, provider: str, dry_run: bool = False, is_complete: bool = False
) -> Reconciliation:
    """Compare a provider's bill with what the ledger has of it on the bill's days (of a bill by calls: from the first
    to the last of these calls' days), and settle the estimates. Done twice, it changes nothing the second time.

    What is not on a bill that `is_complete` cost nothing. Any other bill may be of some models or hours alone: it says
    nothing of the rest.
    """
    booked = await _booked(db, bill, provider)
    matched, change, unnamed, differences = 0, 0, 0, []
    exact: dict[tuple[str, int], int] = {}
    for what in sorted({*bill.costs, *booked}):
        rows = booked.get(what, [])
        if what not in bill.costs and not is_complete and (open_ := sum(row["low"] != row["high"] for row in rows)):
            unnamed += open_
            continue
        share, difference = _compare(what, rows, bill.costs.get(what), bill.slack.get(what, 0))
        if difference is not None:
            differences.append(difference)
            continue
        matched += what in bill.costs
        for row, cost in share:
            exact[row["call_id"], row["number"]] = cost
            change += cost - row["cost"]
    if not dry_run:
        for call_id in sorted({call for call, _ in exact}):
            await _settle(db, call_id, exact)
    return Reconciliation(matched, len(exact), change, unnamed, await _still_open(db, booked), tuple(differences))


def _compare(
    what: Line, rows: Sequence[Row], billed: int | None, slack: int
) -> tuple[list[tuple[Row, int]], Difference | None]:
    """What each estimate comes to, or what does not agree."""
    exact = sum(row["cost"] for row in rows if row["low"] == row["high"])
    guesses = [row for row in rows if row["low"] != row["high"]]
    low, high = exact + sum(row["low"] for row in guesses), exact + sum(row["high"] for row in guesses)
    asked, slack = billed or 0, slack + len(rows)  # each row is rounded to its nano-unit
    if low - slack <= asked <= high + slack:
        return _shares(guesses, min(max(asked, low), high) - exact), None
    if not rows:
        why = "the ledger has no such call" if what.call else "the ledger has no call of it on that day"
    elif billed is None:
        why = "it is not on the bill"
    else:
        why = "the bill asks more" if asked > high else "the bill asks less"
    return [], Difference(what, asked, sum(row["cost"] for row in rows), low, high, why)


def _shares(rows: Sequence[Row], total: int) -> list[tuple[Row, int]]:
    """`total` in parts that lie within each row's bounds: every guess moves the same part of its way to its bound."""
    away = total - sum(row["cost"] for row in rows)
    bound = "high" if away > 0 else "low"
    room = sum(abs(row[bound] - row["cost"]) for row in rows)
    shares, passed, given = [], 0, 0
    for row in rows:  # by sums up to here, so that the parts add up to the unit
        passed += abs(row[bound] - row["cost"])
        upto = abs(away) * passed // room if room else 0
        shares.append((row, row["cost"] + (upto - given) * (1 if away > 0 else -1)))
        given = upto
    return shares


async def _booked(db: Database, bill: Bill, provider: str) -> Mapping[Line, list[Row]]:
    """The ledger's rows of this provider on the bill's days, by what the bill calls them."""
    since, until = await _days(db, bill)
    rows = await db.read(
        "SELECT call_id, number, at, upstream, cost, low, high FROM spent "
        "WHERE provider = ? AND at >= ? AND at < ? ORDER BY at, call_id, number",
        provider, since, until,
    )  # fmt: skip
    booked: dict[Line, list[Row]] = {}
    for row in rows:
        day = datetime.fromtimestamp(row["at"], UTC).date().isoformat()
        what = Line(row["call_id"], "", "") if bill.is_by_call else Line("", day, row["upstream"])
        booked.setdefault(what, []).append(row)
    return {what: rows for what, rows in booked.items() if what in bill.costs or any(row["high"] for row in rows)}


async def _days(db: Database, bill: Bill) -> tuple[float, float]:
    """From the first moment of the bill's first day to the end of its last, in seconds."""
    if not bill.is_by_call:
        days = [datetime.fromisoformat(line.day).replace(tzinfo=UTC).timestamp() for line in bill.costs]
        return min(days), max(days) + _DAY
    calls, times = sorted(line.call for line in bill.costs), []
    for start in range(0, len(calls), 500):
        some = calls[start : start + 500]
        rows = await db.read(f"SELECT at FROM calls WHERE id IN ({', '.join('?' * len(some))})", *some)
        times += [row["at"] for row in rows]
    if not times:
        return 0.0, 0.0
    return min(times) // _DAY * _DAY, max(times) // _DAY * _DAY + _DAY


async def _still_open(db: Database, booked: Mapping[Line, list[Row]]) -> int:
    times = [row["at"] for rows in booked.values() for row in rows]
    until = max(times) // _DAY * _DAY + _DAY if times else 0.0
    sql = "SELECT COUNT(*) AS n FROM open_calls o JOIN calls c ON c.id = o.call_id WHERE c.at < ?"
    return int((await db.read(sql, until))[0]["n"])


async def _settle(db: Database, call_id: str, exact: Mapping[tuple[str, int], int]) -> None:
    """One more revision of the call: what was an estimate has the cost that was billed."""

    async def load(tx: Transaction) -> StoredCall:
        return await load_call(tx, call_id)

    stored = await db.run(load)
    assert stored.ending is not None, "only settled calls are in the view"
    attempts = tuple(_exact(booked, exact.get((call_id, booked.attempt.number))) for booked in stored.ending.attempts)
    await settle(db, stored.call, stored.ending._replace(attempts=attempts), "reconciled")


def _exact(booked: Booked, cost: int | None) -> Booked:
    return booked if cost is None else booked._replace(cost=cost, low=cost, high=cost)
