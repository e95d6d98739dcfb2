"""The bill against the ledger: estimates become exact, within their bounds; what is exact is never changed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.spend.conftest import Books

from inhouse.gateway.spend.bill import Bill, Line
from inhouse.gateway.spend.reconcile import _shares, reconcile

DAY_ONE = "2024-10-04"


def by_call(**costs: int) -> Bill:
    lines = {Line(call, "", ""): cost for call, cost in costs.items()}
    return Bill(lines, dict.fromkeys(lines, 1))


def by_day(*costs: tuple[str, str, int]) -> Bill:
    lines = {Line("", day, model): cost for day, model, cost in costs}
    return Bill(lines, dict.fromkeys(lines, 1))


def test_an_estimate_takes_what_its_call_was_billed(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        await books.call((100, 100, 100))
        await books.call((0, 0, 500), (40, 0, 500))  # the first attempt failed, perhaps for nothing
        done = await reconcile(books.db, by_call(call_0001=100, call_0002=600), "acme")
        assert (done.matched, done.settled, done.change, done.differences) == (2, 2, 560, ())
        costs = await books.costs()
        assert costs[0] == ("call_0001", 1, 100, 100, 100, "settled")
        assert sum(cost for id, _, cost, *_ in costs if id == "call_0002") == 600
        assert all(low == cost == high and kind == "reconciled" for _, _, cost, low, high, kind in costs[1:])
        again = await reconcile(books.db, by_call(call_0001=100, call_0002=600), "acme")
        assert (again.matched, again.settled, again.change) == (2, 0, 0)

    with_books(work)


def test_a_bill_by_day_and_model_settles_all_of_a_day_together(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        await books.call((1000, 1000, 1000))
        await books.call((50, 0, 100))
        await books.call((10, 0, 400))
        await books.call((7, 0, 400), day=1)
        await books.call((9, 0, 400), provider="other")
        bill = by_day((DAY_ONE, "big-1", 1200))
        done = await reconcile(books.db, bill, "acme", dry_run=True)
        assert (done.settled, done.change) == (2, 140)
        assert (await books.costs())[1][2] == 50
        assert (await reconcile(books.db, bill, "acme")).settled == 2
        costs = {id: cost for id, _, cost, *_ in await books.costs()}
        assert costs["call_0002"] + costs["call_0003"] == 200
        assert (costs["call_0001"], costs["call_0004"], costs["call_0005"]) == (1000, 7, 9)

    with_books(work)


def test_what_differs_is_said_and_left_as_it_is(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        await books.call((100, 100, 100))
        await books.call((40, 0, 500))
        await books.call((30, 30, 30))
        await books.call((1, 0, 2), is_over=False)
        before = await books.costs()
        done = await reconcile(books.db, by_call(call_0001=90, call_0002=600, nobody=5), "acme")
        assert {str(each.what): each.why for each in done.differences} == {
            "call_0001": "the bill asks less",
            "call_0002": "the bill asks more",
            "call_0003": "it is not on the bill",
            "nobody": "the ledger has no such call",
        }
        assert (done.settled, done.still_open) == (0, 1)
        assert await books.costs() == before

    with_books(work)


def test_an_estimate_that_is_not_on_a_complete_bill_cost_nothing(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        await books.call((100, 100, 100))
        await books.call((40, 0, 500))
        await books.call((40, 0, 500), model="small")
        bill = by_day((DAY_ONE, "big-1", 100))
        assert (await reconcile(books.db, bill, "acme", is_complete=True)).settled == 2
        assert [cost for _, _, cost, *_ in await books.costs()] == [100, 0, 0]

    with_books(work)


@given(st.lists(st.tuples(*[st.integers(0, 10**12)] * 3).map(sorted), min_size=1, max_size=9), st.floats(0, 1))
def test_shares_add_up_and_keep_to_their_bounds(rows: list[list[int]], place: float) -> None:
    guesses = [{"low": low, "cost": cost, "high": high} for low, cost, high in rows]
    least, most = sum(row["low"] for row in guesses), sum(row["high"] for row in guesses)
    total = least + int((most - least) * place)
    total = min(max(total, least), most)
    shares = _shares(guesses, total)
    assert sum(cost for _, cost in shares) == total
    assert all(row["low"] <= cost <= row["high"] for row, cost in shares)


def test_shares_of_right_guesses_stay() -> None:
    rows = [{"low": 0, "cost": 5, "high": 9}, {"low": 0, "cost": 6, "high": 60}]
    assert [cost for _, cost in _shares(rows, 11)] == [5, 6]


def test_another_provider_has_none_of_it(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        await books.call((100, 100, 100))
        done = await reconcile(books.db, by_day((DAY_ONE, "big-1", 100)), "other")
        assert [each.why for each in done.differences] == ["the ledger has no call of it on that day"]

    with_books(work)


@pytest.mark.parametrize("billed", [99, 101])
def test_rounding_is_no_difference(with_books: Callable, billed: int) -> None:
    async def work(books: Books) -> None:
        await books.call((100, 100, 100))
        assert not (await reconcile(books.db, by_call(call_0001=billed), "acme")).differences

    with_books(work)


def test_a_bill_of_some_models_says_nothing_of_the_others(with_books: Callable) -> None:
    async def work(books: Books) -> None:
        await books.call((100, 100, 100))
        await books.call((40, 0, 500))
        bill = by_call(call_0001=100)
        done = await reconcile(books.db, bill, "acme")
        assert (done.settled, done.unnamed, done.differences) == (0, 1, ())
        assert (await books.costs())[1][2:5] == (40, 0, 500)
        done = await reconcile(books.db, bill, "acme", is_complete=True)
        assert (done.settled, done.change, done.unnamed) == (1, -40, 0)

    with_books(work)
