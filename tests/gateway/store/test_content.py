"""Content is stored for keys that ask for it, until their days are over; who looks at it stands in the audit log."""

from tests.gateway.store.conftest import SECRET, Store

from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.content import Content, delete_content, delete_expired, keep_content, read_content
from inhouse.gateway.store.database import Database
from inhouse.gateway.types import Caller

CONTENT = Content('{"messages": []}', '{"text": "\\u0000"}')


def test_content_goes_when_its_days_are_over(store: Store) -> None:
    async def scenario(db: Database) -> None:
        audit = AuditLog(db, store.folder / "head.json", SECRET)
        await keep_content(db, "call_1", Caller("a", "t", keep_content_days=2), CONTENT)
        await keep_content(db, "call_2", Caller("b", "t"), CONTENT)
        await keep_content(db, "call_3", Caller("a", "t", keep_content_days=9), CONTENT)
        assert await read_content(db, audit, "call_1", "ann") == CONTENT
        assert await read_content(db, audit, "call_2", "ann") is None
        store.clock.seconds += 3 * 86_400
        assert await read_content(db, audit, "call_1", "ann") is None
        assert await delete_expired(db) == 1
        assert await delete_content(db, audit, "a", "ann") == 1
        assert await db.read("SELECT * FROM content") == []
        assert [(entry.body["by"], entry.body["what"]) for entry in await audit.entries()] == [
            *[("ann", "content read")] * 3, ("ann", "content deleted")
        ]  # fmt: skip

    store.run(scenario)
