"""The audit log: every administrative act and every look at stored content, chained, signed, its head kept elsewhere.

Entries have the form of the arena's log of votes. The rows stand in the store; where they end is said by a signed file,
one for each place where a gateway runs, which belongs where whoever can write the store cannot write.
"""

import asyncio
import fcntl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from inhouse.arena.log_format import FIRST, Entry, Head, canonical, entry_of, mac, read_head, write_head
from inhouse.arena.tampering import check_lines
from inhouse.gateway.store.database import Database, Transaction, Work
from inhouse.gateway.store.secret import derive

T = TypeVar("T")


class AuditLog:
    """`AuditLog(db, head, secret)`: `act` writes, `verify` finds what was changed, missing, inserted or moved."""

    def __init__(self, db: Database, head: Path, secret: bytes) -> None:
        self._db, self._head, self._key = db, head, derive(secret, "audit")

    async def act(self, by: str, what: str, details: Mapping[str, Any], work: Work[T]) -> T:
        """Do `work` and write who did what, in one transaction, and move the head on. Raises what `work` raises, and
        `ValueError` where the last entry is not genuine; nothing is kept then."""

        async def both(tx: Transaction) -> T:
            result = await work(tx)
            await tx.alone("audit")
            rows = await tx.fetch("SELECT line FROM audit ORDER BY number DESC LIMIT 1")
            last = self._genuine(rows[0][0]) if rows else None
            entry: dict[str, Any] = {
                "number": last.number + 1 if last else 1,
                "previous": last.mac if last else FIRST,
                "kind": "act",
                "body": {"at": self._db.now(), "by": by, "what": what, "details": dict(details)},
            }
            entry["mac"] = mac(self._key, entry)
            await tx.execute(
                "INSERT INTO audit (number, line) VALUES (?, ?)", entry["number"], canonical(entry).decode()
            )
            return result

        result = await self._db.run(both)
        await self.move_head()
        return result

    async def move_head(self) -> None:
        """Let the file name the newest entry, whichever replica wrote it. Raises `ValueError` where what was added does
        not follow on what the file names."""
        known = read_head(self._head, self._key) or Head(0, 0, FIRST)
        rows = await self._db.read("SELECT line FROM audit WHERE number > ? ORDER BY number", known.count)
        head = known
        for row in rows:
            entry = self._genuine(row["line"])
            if (entry.number, entry.previous) != (head.count + 1, head.mac):
                raise ValueError(
                    f"the audit log does not follow on its head at entry {head.count + 1}; `audit --verify`"
                )
            head = Head(entry.number, head.bytes + len(row["line"].encode()) + 1, entry.mac)
        if head != known:
            await asyncio.to_thread(self._write_head, head)

    async def entries(self, last: int = 100) -> list[Entry]:
        """The newest, in their order; those that are not genuine are left to `verify`."""
        rows = await self._db.read("SELECT line FROM audit ORDER BY number DESC LIMIT ?", last)
        found = (entry_of(row["line"].encode(), self._key) for row in reversed(rows))
        return [entry for entry in found if entry is not None]

    async def verify(self, heads: Sequence[Path] = ()) -> tuple[str, ...]:
        """A sentence for all that is not as it was written, judged by the head here and by those of other places; none
        where all is genuine. Raises `ValueError` where a head is not signed with this key."""
        stated = [(path, read_head(path, self._key)) for path in (self._head, *heads)]  # before the rows that they name
        lines = [row["line"].encode() for row in await self._db.read("SELECT line FROM audit ORDER BY number")]
        findings = [
            f"there is no head at {path}: whether the end was cut off cannot be told"
            for path, head in stated
            if head is None and lines
        ]
        for head in {head: None for _, head in stated}:
            findings += check_lines(lines, head, self._key)[1]
        return tuple(dict.fromkeys(findings))

    def _genuine(self, line: str) -> Entry:
        entry = entry_of(line.encode("utf-8", "backslashreplace"), self._key)
        if entry is None:
            raise ValueError(
                "the audit log has an entry that was not written by this gateway; `audit --verify` names it"
            )
        return entry

    def _write_head(self, head: Head) -> None:
        """Never back: several processes here share the file."""
        with self._head.with_name(f".{self._head.name}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known = read_head(self._head, self._key)
            if known is None or known.count < head.count:
                write_head(self._head, self._key, head)
