"""What was spent: sums of the ledger by team, key, task, provider, model and day."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, get_args

from inhouse.gateway.store.database import Database

By = Literal["team", "key", "task", "provider", "model", "day"]
LATEST = 2.0**40  # seconds: no call is later
_DAY_MS = 86_400_000
_COLUMNS: dict[By, str] = {
    "team": "team", "key": "key_id", "task": "task", "provider": "provider", "model": "model",
    "day": f"CAST(at * 1000 AS BIGINT) / {_DAY_MS}",  # whole numbers divide alike in both stores
}  # fmt: skip


class Spending(NamedTuple):
    """A sum over settled calls; money in nano-units. `low` to `high` is where the providers' bills will lie."""

    of: tuple[str, ...]  # the values of what was grouped by, in that order
    calls: int
    prompt: int
    cached: int
    completion: int
    thinking: int
    written: int
    written_1h: int
    cost: int
    low: int
    high: int

    @property
    def is_exact(self) -> bool:
        return self.low == self.high


async def spending(db: Database, by: Sequence[str], since: float = 0.0, until: float = LATEST) -> list[Spending]:
    """The sums, dearest first, days in their order. Raises `ValueError` for what nothing can be grouped by."""
    known = get_args(By)
    if wrong := [name for name in by if name not in known]:
        raise ValueError(f'spend by "{wrong[0][:30]}": there are {", ".join(known)}')
    columns = [_COLUMNS[name] for name in by]  # type: ignore[index]  # checked above
    groups = ", ".join(f"{column} AS g{i}" for i, column in enumerate(columns))
    rows = await db.read(
        f"SELECT {groups}{', ' * bool(groups)}COUNT(DISTINCT call_id) AS calls, SUM(prompt) AS prompt, "
        "SUM(cached) AS cached, SUM(completion) AS completion, SUM(thinking) AS thinking, "
        "SUM(written) AS written, SUM(written_1h) AS written_1h, SUM(cost) AS cost, SUM(low) AS low, "
        "SUM(high) AS high FROM spent WHERE at >= ? AND at < ?"
        + (f" GROUP BY {', '.join(columns)}" if columns else ""),
        since, until,
    )  # fmt: skip
    sums = [
        Spending(
            tuple(_named(name, row[i]) for i, name in enumerate(by)),
            *(int(row[name] or 0) for name in Spending._fields[1:]),
        )
        for row in rows
    ]
    return sorted(
        sums, key=lambda each: (*[v for v, n in zip(each.of, by, strict=True) if n == "day"], -each.cost, each.of)
    )


def _named(by: str, value: object) -> str:
    if by == "day":
        return datetime.fromtimestamp(int(str(value)) * 86_400, UTC).date().isoformat()
    return str(value)
