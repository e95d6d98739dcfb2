"""Prompts and answers of keys that ask for it, for as many days as they ask; whoever looks at one stands in the audit
log."""

from typing import NamedTuple

from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database, Row, Transaction
from inhouse.gateway.store.ledger import plain
from inhouse.gateway.types import Caller

_DAY = 86_400.0


class Content(NamedTuple):
    """What was asked and answered, as JSON."""

    request: str
    answer: str


async def keep_content(db: Database, call_id: str, caller: Caller, content: Content) -> None:
    """Store it for as long as the caller's key asks; nothing where it does not ask. Text must be JSON that escapes what
    is not a character (`json.dumps`)."""
    if caller.keep_content_days:
        now = db.now()
        await db.run(
            lambda tx: tx.execute(
                "INSERT INTO content (call_id, key_id, at, kept_until, request, answer) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (call_id) DO NOTHING",
                call_id, caller.key_id, now, now + caller.keep_content_days * _DAY, *content,
            )
        )  # fmt: skip


async def read_content(db: Database, audit: AuditLog, call_id: str, by: str) -> Content | None:
    """What is stored of a call; None where nothing is, or not any more. That it was asked for is written first."""

    async def work(tx: Transaction) -> list[Row]:
        return await tx.fetch(
            "SELECT request, answer FROM content WHERE call_id = ? AND kept_until > ?", plain(call_id), db.now()
        )

    rows = await audit.act(by, "content read", {"call_id": call_id}, work)
    return Content(rows[0]["request"], rows[0]["answer"]) if rows else None


async def delete_content(db: Database, audit: AuditLog, key_id: str, by: str) -> int:
    """Delete all that is stored of a key's calls; of how many calls that was."""
    return await audit.act(
        by, "content deleted", {"key_id": key_id}, lambda tx: tx.execute("DELETE FROM content WHERE key_id = ?", key_id)
    )


async def delete_expired(db: Database) -> int:
    """Delete what has been kept for long enough; of how many calls that was. A chore of `Replica.keep`."""
    return await db.run(lambda tx: tx.execute("DELETE FROM content WHERE kept_until <= ?", db.now()))
