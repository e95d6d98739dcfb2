"""Keys are found by their secret alone, for as long as they are good; the store says nothing of the secrets."""

from pathlib import Path

import pytest
from tests.gateway.store.conftest import SECRET, Clock, Store

from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.keys import Keys
from inhouse.gateway.types import Caller

CALLER = Caller("team-docs", "docs", ("auto", "preview"), budget=50, keep_content_days=3)


def new_keys(db: Database, folder: Path, monotonic: Clock | None = None) -> Keys:
    return Keys(db, SECRET, AuditLog(db, folder / "head.json", SECRET), monotonic or Clock())


def test_a_key_is_found_until_it_is_revoked(store: Store) -> None:
    async def scenario(db: Database) -> None:
        keys, clock = new_keys(db, store.folder), Clock()
        elsewhere = new_keys(db, store.folder, clock)
        secret = await keys.create(CALLER, "ann")
        assert secret.startswith("ih-")
        assert len(secret) == 46
        assert await keys.find(secret) == await elsewhere.find(secret) == CALLER
        await keys.revoke("team-docs", "ann")
        assert await keys.find(secret) is None
        clock.seconds += 1.0
        assert await elsewhere.find(secret) is None
        assert [(key.caller, key.revoked) for key in await keys.all()] == [(CALLER, store.clock.seconds)]
        with pytest.raises(ValueError, match="no key 'team-docs' in use; there are: none"):
            await keys.revoke("team-docs", "ann")

    store.run(scenario)


def test_a_rotated_secret_works_for_its_grace(store: Store) -> None:
    async def scenario(db: Database) -> None:
        clock = Clock()
        keys = new_keys(db, store.folder, clock)
        old = await keys.create(CALLER, "ann")
        new = await keys.rotate("team-docs", "ann", grace_seconds=60)
        assert await keys.find(old) == await keys.find(new) == CALLER
        store.clock.seconds += 61
        clock.seconds += 61
        assert (await keys.find(old), await keys.find(new)) == (None, CALLER)
        with pytest.raises(ValueError, match="a key team-docs already"):
            await keys.create(CALLER, "ann")

    store.run(scenario)


@pytest.mark.parametrize("secret", ["", "ih-", "' OR '1'='1", "ih-\0", "\ud800", "x" * 100_000, "ih-" + "A" * 43])
def test_what_is_no_key_finds_nobody(store: Store, secret: str) -> None:
    async def scenario(db: Database) -> None:
        keys = new_keys(db, store.folder)
        await keys.create(CALLER, "ann")
        assert await keys.find(secret) is None
        assert await keys.find(secret) is None

    store.run(scenario)


def test_the_first_start_makes_one_admin(store: Store) -> None:
    async def scenario(db: Database) -> None:
        keys = new_keys(db, store.folder)
        secret = await keys.create_admin("start")
        assert secret is not None
        caller = await keys.find(secret)
        assert caller is not None
        assert caller.is_admin
        assert await keys.create_admin("start") is None
        await keys.revoke("admin", "ann")
        assert await keys.create_admin("start") is not None

    store.run(scenario)


def test_no_secret_is_stored(store: Store) -> None:
    async def scenario(db: Database) -> None:
        secret = await new_keys(db, store.folder).create(CALLER, "ann")
        for table in ("keys", "key_secrets", "audit", "state"):
            text = str([tuple(row) for row in await db.read(f"SELECT * FROM {table}")])
            assert secret[3:20] not in text

    store.run(scenario)
