"""Whatever is done to the audit log behind the gateway's back is found and named."""

import pytest
from tests.gateway.store.conftest import SECRET, Store

from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.database import Database, Transaction

ATTACKS = {
    "": [],
    "entry 3 was changed": ["UPDATE audit SET line = replace(line, 'act 3', 'act 9') WHERE number = 3"],
    "entry 3 is missing": ["DELETE FROM audit WHERE number = 3"],
    "entries 4 to 5 are missing at the end": ["DELETE FROM audit WHERE number > 3"],
    "entries 1 to 5 are missing at the end": ["DELETE FROM audit"],
    "line 1 was inserted": ["INSERT INTO audit SELECT 0, replace(line, 'act 1', 'act 0') FROM audit WHERE number = 1"],
    "is a copy of entry 2": ["INSERT INTO audit SELECT 9, line FROM audit WHERE number = 2"],
    "entry 1 was moved": ["UPDATE audit SET number = 9 WHERE number = 1"],
}


async def nothing(tx: Transaction) -> None:
    return None


@pytest.mark.parametrize("finding", ATTACKS)
def test_an_attack_is_named(store: Store, finding: str) -> None:
    async def scenario(db: Database) -> None:
        log = AuditLog(db, store.folder / "head.json", SECRET)
        for number in range(1, 6):
            await log.act("ann", f"act {number}", {"what": number}, nothing)

        async def attack(tx: Transaction) -> None:
            for sql in ATTACKS[finding]:
                await tx.execute(sql)

        await db.run(attack)
        found = await log.verify()
        assert (len(found) == 0) if not finding else any(finding in sentence for sentence in found), found

    store.run(scenario)


def test_what_is_refused_leaves_no_entry(store: Store) -> None:
    async def scenario(db: Database) -> None:
        log = AuditLog(db, store.folder / "head.json", SECRET)

        async def refused(tx: Transaction) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await log.act("ann", "tried", {}, refused)
        assert await log.entries() == []

    store.run(scenario)


def test_replicas_write_one_chain_and_each_keeps_a_head(store: Store) -> None:
    async def scenario(db: Database) -> None:
        here, there = (AuditLog(db, store.folder / name, SECRET) for name in ("a.json", "b.json"))
        await here.act("ann", "one", {}, nothing)
        await there.act("bob", "two", {}, nothing)
        assert [entry.body["by"] for entry in await here.entries()] == ["ann", "bob"]
        assert await here.verify([store.folder / "b.json"]) == ()
        await db.run(lambda tx: tx.execute("DELETE FROM audit WHERE number = 2"))
        assert await here.verify() == ()  # its own head knows of one entry
        assert await here.verify([store.folder / "b.json"]) == ("entry 2 is missing at the end",)
        with pytest.raises(ValueError, match="signed with this key"):
            await AuditLog(db, store.folder / "a.json", b"x" * 32).verify()
        assert "no head" in (await AuditLog(db, store.folder / "none.json", SECRET).verify())[0]

    store.run(scenario)
