"""Users' votes on answers: one a call and key, the last counts."""

from typing import NamedTuple

from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.store.ledger import plain
from inhouse.gateway.types import Caller, CallRefused


class Tally(NamedTuple):
    """Of one model's answers to one task."""

    task: str
    model: str
    good: int
    bad: int


async def vote(db: Database, caller: Caller, call_id: str, is_good: bool) -> None:
    """Raises `CallRefused`: 404 where no such call was answered, 403 where it is another team's."""

    async def work(tx: Transaction) -> None:
        rows = await tx.fetch(
            "SELECT team, task, model FROM spent WHERE call_id = ? AND outcome = 'answered'", plain(call_id)
        )
        if not rows:
            raise CallRefused(404, "There is no answered call of this id.", "call_not_found")
        if rows[0]["team"] != caller.team and not caller.is_admin:
            raise CallRefused(403, "This call is another team's.", "call_not_allowed")
        await tx.execute(
            "INSERT INTO votes (call_id, key_id, at, task, model, is_good) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (call_id, key_id) DO UPDATE SET at = excluded.at, is_good = excluded.is_good",
            call_id, caller.key_id, db.now(), rows[0]["task"], rows[0]["model"], int(is_good),
        )  # fmt: skip

    await db.run(work)


async def tallies(db: Database) -> list[Tally]:
    """All votes on calls whose task is known."""
    rows = await db.read(
        "SELECT task, model, SUM(is_good) AS good, SUM(1 - is_good) AS bad FROM votes WHERE task <> '' "
        "GROUP BY task, model ORDER BY task, model"
    )
    return [Tally(row["task"], row["model"], int(row["good"]), int(row["bad"])) for row in rows]
