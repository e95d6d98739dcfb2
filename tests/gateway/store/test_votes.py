"""Who asked may say whether the answer was good; the last word counts."""

import pytest
from tests.gateway.store.calls import CALLER, attempt, call, ending
from tests.gateway.store.conftest import Store

from inhouse.gateway.store.database import Database
from inhouse.gateway.store.ledger import open_call, settle
from inhouse.gateway.store.votes import Tally, tallies, vote
from inhouse.gateway.types import Caller, CallRefused


def test_a_vote_counts_once(store: Store) -> None:
    async def scenario(db: Database) -> None:
        opened = await open_call(db, "r", call(), attempt())
        with pytest.raises(CallRefused, match="no answered call"):
            await vote(db, CALLER, opened.id, True)
        await settle(db, opened, ending(1))
        await vote(db, CALLER, opened.id, True)
        await vote(db, CALLER, opened.id, False)
        await vote(db, CALLER._replace(key_id="docs-2"), opened.id, True)
        assert await tallies(db) == [Tally("product/code", "large", 1, 1)]
        with pytest.raises(CallRefused, match="another team's"):
            await vote(db, Caller("web-1", "web"), opened.id, True)
        for wrong in ("", "a\0b", "\ud800", "' OR 1 = 1 --"):
            with pytest.raises(CallRefused, match="no answered call"):
                await vote(db, CALLER, wrong, True)

    store.run(scenario)
