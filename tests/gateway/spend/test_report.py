"""Sums of the ledger by all that it can be asked for."""

from collections.abc import Callable

import pytest
from tests.gateway.spend.conftest import DAY, START, Books

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend.report import spending


def test_sums_by_team_task_provider_and_day(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        use = Usage(10, 4, 5, 1, 3, 2)
        await books.call((100, 100, 100), usage=use, task="product/code")
        await books.call((30, 0, 90), (20, 20, 20), team="apps", usage=use)
        await books.call((7, 7, 7), day=1, provider="other", usage=use)
        (whole,) = await spending(books.db, ())
        assert whole == ((), 3, 40, 16, 20, 4, 12, 8, 157, 127, 217)
        assert not whole.is_exact
        assert [(each.of, each.calls, each.cost) for each in await spending(books.db, ("team",))] == [
            (("docs",), 2, 107), (("apps",), 1, 50),
        ]  # fmt: skip
        by_day = await spending(books.db, ("day", "provider"))
        assert [(each.of, each.cost) for each in by_day] == [
            (("2024-10-04", "acme"), 150), (("2024-10-05", "other"), 7),
        ]  # fmt: skip
        (late,) = await spending(books.db, ("task",), since=START + DAY)
        assert (late.of, late.cost) == (("",), 7)
        assert await spending(books.db, ("model",), until=START) == []
        assert (await spending(books.db, (), until=START))[0].cost == 0
        with pytest.raises(ValueError, match='by "colour"'):
            await spending(books.db, ("colour",))
        with pytest.raises(ValueError, match='by ""'):
            await spending(books.db, ("team", ""))

    with_books(work)
