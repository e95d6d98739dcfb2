"""Keys: 256 random bits, shown once, stored as their HMAC: who reads the store can ask nothing with what is in it."""

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database, Transaction
from inhouse.gateway.store.secret import derive
from inhouse.gateway.types import Caller

PREFIX = "ih-"
ADMIN = "admin"  # the key that the first start makes
_SECONDS = 1.0  # how long an answer is remembered: a key that was revoked elsewhere works no longer than that
_REMEMBERED = 4096


class Key(NamedTuple):
    """A key as administrators see it: never its secret."""

    caller: Caller
    created: float
    revoked: float | None


class Keys:
    """The keys of a store. Every change stands in the audit log, in the same transaction."""

    def __init__(
        self, db: Database, secret: bytes, audit: AuditLog, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._db, self._audit, self._monotonic = db, audit, monotonic
        self._hmac_key = derive(secret, "keys")
        self._found: dict[str, tuple[float, Caller | None]] = {}  # by digest: secrets are not kept in memory

    async def find(self, secret: str) -> Caller | None:
        """Whose secret it is; None where it is nobody's or was revoked. Every text takes the same way: its HMAC is
        looked up, which nobody can choose."""
        return await self.find_digest(self.digest(secret))

    async def find_digest(self, digest: str) -> Caller | None:
        """The same of a secret that was shown before (`digest`)."""
        now = self._monotonic()
        until, caller = self._found.get(digest, (0.0, None))
        if now < until:
            return caller
        caller = await self._look_up(digest)
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[digest] = now + _SECONDS, caller
        return caller

    async def create(self, caller: Caller, by: str) -> str:
        """A new key with these rights; its secret, which nobody can read again. Raises `ValueError` where a key has or
        had this id: the ledger counts by it."""
        secret = _new_secret()

        async def work(tx: Transaction) -> None:
            added = await tx.execute(
                "INSERT INTO keys (id, caller, created) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING",
                caller.key_id, json.dumps(caller._asdict()), self._db.now(),
            )  # fmt: skip
            if not added:
                raise ValueError(f"there is a key {caller.key_id} already; rotate it, or take another name")
            await self._add_secret(tx, caller.key_id, secret)

        await self._audit.act(by, "key created", caller._asdict(), work)
        self._found.clear()
        return secret

    async def create_admin(self, by: str) -> str | None:
        """The first key of a store; None where it has one that administers already."""
        if any(key.caller.is_admin and key.revoked is None for key in await self.all()):
            return None
        taken = {key.caller.key_id for key in await self.all()}
        name = next(name for name in (ADMIN, *(f"{ADMIN}-{n}" for n in range(2, len(taken) + 3))) if name not in taken)
        return await self.create(Caller(name, ADMIN, is_admin=True), by)

    async def all(self) -> list[Key]:
        """Every key there ever was, in the order of their names."""
        rows = await self._db.run(lambda tx: tx.fetch("SELECT * FROM keys ORDER BY id"))
        return [Key(_caller(row["caller"]), row["created"], row["revoked"]) for row in rows]

    async def revoke(self, key_id: str, by: str) -> None:
        """It works no more, here at once, elsewhere within a second. Raises `ValueError` where there is none."""

        async def work(tx: Transaction) -> None:
            if not await tx.execute(
                "UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL", self._db.now(), key_id
            ):
                raise ValueError(await self._missing(tx, key_id))

        await self._audit.act(by, "key revoked", {"key_id": key_id}, work)
        self._found.clear()

    async def rotate(self, key_id: str, by: str, grace_seconds: float = 0.0) -> str:
        """A new secret for a key; old ones work for `grace_seconds` more. Raises `ValueError` where there is none."""
        secret = _new_secret()

        async def work(tx: Transaction) -> None:
            if not await tx.fetch("SELECT 1 FROM keys WHERE id = ? AND revoked IS NULL", key_id):
                raise ValueError(await self._missing(tx, key_id))
            ends = self._db.now() + grace_seconds
            await tx.execute(
                "UPDATE key_secrets SET ends = ? WHERE key_id = ? AND (ends IS NULL OR ends > ?)", ends, key_id, ends
            )
            await self._add_secret(tx, key_id, secret)

        await self._audit.act(by, "key rotated", {"key_id": key_id, "grace_seconds": grace_seconds}, work)
        self._found.clear()
        return secret

    async def _look_up(self, digest: str) -> Caller | None:
        rows = await self._db.look_up(
            "SELECT k.caller FROM key_secrets s JOIN keys k ON k.id = s.key_id "
            "WHERE s.digest = ? AND (s.ends IS NULL OR s.ends > ?) AND k.revoked IS NULL",
            digest, self._db.now(),
        )  # fmt: skip
        return _caller(rows[0][0]) if rows else None

    async def _add_secret(self, tx: Transaction, key_id: str, secret: str) -> None:
        await tx.execute(
            "INSERT INTO key_secrets (digest, key_id, created) VALUES (?, ?, ?)",
            self.digest(secret), key_id, self._db.now(),
        )  # fmt: skip

    async def _missing(self, tx: Transaction, key_id: str) -> str:
        rows = await tx.fetch("SELECT id FROM keys WHERE revoked IS NULL ORDER BY id")
        return f"there is no key {key_id!r:.100} in use; there are: {', '.join(row[0] for row in rows) or 'none'}"

    def digest(self, secret: str) -> str:
        """What the store has of a secret."""
        return hmac.new(self._hmac_key, secret.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _caller(text: str) -> Caller:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()
    }
    return Caller(**fields)
