"""A cut stands in the store, ends what is under way after its grace, and leaves no key behind."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from inhouse.gateway.contracts.cut import CutWatch, declare, effects, lift_cut, order_cut, stored_cuts
from inhouse.gateway.contracts.settings import TermsSettings
from inhouse.gateway.contracts.terms import Cut, Terms
from inhouse.gateway.failover.pool import Pool, ProviderCut
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.migrations import migrate
from inhouse.gateway.store.sqlite import SqliteDatabase
from inhouse.gateway.types import NANO, Target
from inhouse.providers.endpoint import Endpoint

ACME = Target("acme", "acme-1", "up")
SECRET = b"s" * 32
FOR_GOOD = Cut("acme", 100.0, None, 0.0, "op", "its price", 90.0)


class Clock:
    def __init__(self) -> None:
        self.time = 90.0

    def __call__(self) -> float:
        return self.time


class OpenEndpoint:
    """What a pool holds of a provider."""

    is_closed = False

    async def __aexit__(self, *what: object) -> None:
        self.is_closed = True


class House:
    """A store with its audit log, and one replica on it."""

    def __init__(self, folder: Path, terms: dict[str, TermsSettings] | None = None) -> None:
        self.clock, self.terms = Clock(), terms or {}
        self.db = SqliteDatabase(folder / "gateway.sqlite", self.clock)
        self.audit = AuditLog(self.db, folder / "head", SECRET)
        self.endpoint, self.reopened = OpenEndpoint(), list[str]()
        self.pool = Pool({"acme": cast(Endpoint, self.endpoint)}, {})
        variables = {"acme": "ACME_KEY", "bolt": "BOLT_KEY"}
        self.watch = CutWatch(self.db, self.audit, self.pool, self.terms, variables, self.reopen)

    async def reopen(self, provider: str) -> Endpoint:
        self.reopened.append(provider)
        return cast(Endpoint, OpenEndpoint())

    async def look_at(self, time: float) -> None:
        self.clock.time = time
        await self.watch.look()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ACME_KEY", "sk-acme")
    monkeypatch.setenv("BOLT_KEY", "sk-bolt")
    yield


def run(folder: Path, work: Callable[[House], Coroutine[Any, Any, None]], **terms: TermsSettings) -> None:
    async def whole() -> None:
        house = House(folder, terms)
        await migrate(house.db)
        try:
            await work(house)
        finally:
            await house.db.close()

    asyncio.run(whole())


def test_a_cut_counts_from_its_time_on_and_at_every_later_start(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        await order_cut(house.audit, FOR_GOOD)
        await house.look_at(99.9)
        assert house.pool.is_open("acme") and os.environ["ACME_KEY"] == "sk-acme"
        await house.look_at(100.0)
        await house.watch.finished()
        assert not house.pool.is_open("acme") and house.endpoint.is_closed
        assert "ACME_KEY" not in os.environ and os.environ["BOLT_KEY"] == "sk-bolt"
        with pytest.raises(ProviderCut):
            house.pool.endpoint(ACME)
        assert await stored_cuts(house.db) == {"acme": FOR_GOOD}
        assert "was cut" in str(Terms({}, house.watch.cuts).why_not(ACME, "code", 100.0))
        assert await house.audit.verify() == ()
        (entry,) = await house.audit.entries()
        assert entry.body["what"] == "cut" and entry.body["by"] == "op"

    run(tmp_path, work)

    async def anew(house: House) -> None:
        await house.look_at(200.0)
        await house.watch.finished()
        assert not house.pool.is_open("acme")

    run(tmp_path, anew)


@pytest.mark.parametrize("grace", [0.0, 10.0])
def test_streams_under_way_have_their_grace(tmp_path: Path, grace: float) -> None:
    async def work(house: House) -> None:
        told: list[str] = []

        def stop() -> None:
            told.append("stopped")
            house.pool.leave("acme", stop)

        house.pool.enter("acme", stop)
        await order_cut(house.audit, FOR_GOOD._replace(grace=grace))
        await house.look_at(100.0)
        await asyncio.sleep(0.01)
        assert not house.pool.is_open("acme")  # to new calls, in any case
        assert bool(told) is (grace == 0) and house.endpoint.is_closed is (grace == 0)
        house.pool.leave("acme", stop)  # it has come to its own end
        await asyncio.wait_for(house.watch.finished(), 5)
        assert house.endpoint.is_closed

    run(tmp_path, work)


def test_a_drill_ends_and_keeps_the_key(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        await order_cut(house.audit, FOR_GOOD._replace(until=160.0))
        await house.look_at(100.0)
        await house.watch.finished()
        assert not house.pool.is_open("acme") and os.environ["ACME_KEY"] == "sk-acme" and not house.reopened
        await house.look_at(160.0)
        assert house.pool.is_open("acme") and house.reopened == ["acme"]

    run(tmp_path, work)


def test_a_cut_at_once_stands_though_the_clock_is_set_back(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        await order_cut(house.audit, FOR_GOOD._replace(ordered=100.0))
        await house.look_at(100.0)
        await house.watch.finished()
        await house.look_at(50.0)
        assert not house.pool.is_open("acme") and not house.reopened

    run(tmp_path, work)


def test_no_cut_waits_for_the_streams_of_one_that_was_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inhouse.gateway.contracts.cut._MOMENT", 0.01)

    async def work(house: House) -> None:
        house.pool.open("bolt", cast(Endpoint, OpenEndpoint()))
        house.pool.enter("acme", lambda: None)
        await order_cut(house.audit, FOR_GOOD._replace(grace=3600.0))
        await house.look_at(100.0)
        await asyncio.sleep(0)
        await lift_cut(house.audit, "acme", "op")
        await asyncio.wait_for(house.look_at(101.0), 5)
        await order_cut(house.audit, FOR_GOOD._replace(provider="bolt"))
        await asyncio.wait_for(house.look_at(102.0), 5)
        await asyncio.sleep(0.01)
        assert not house.pool.is_open("bolt") and not house.pool.is_open("acme")

    run(tmp_path, work)


def test_a_cut_for_good_stands_over_drills_and_later_ones_and_can_be_taken_back(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        await order_cut(house.audit, FOR_GOOD._replace(until=160.0))
        await order_cut(house.audit, FOR_GOOD)
        for later in (FOR_GOOD._replace(at=101.0), FOR_GOOD._replace(at=10.0, until=160.0)):
            with pytest.raises(ValueError, match="acme is cut already: from 1970-01-01T00:01:40Z on, ordered by op"):
                await order_cut(house.audit, later)
        await order_cut(house.audit, FOR_GOOD._replace(at=95.0))
        await lift_cut(house.audit, "acme", "op")
        with pytest.raises(ValueError, match="acme is not cut"):
            await lift_cut(house.audit, "acme", "op")
        assert await stored_cuts(house.db) == {} and len(await house.audit.entries()) == 4

    run(tmp_path, work)


def test_a_key_that_another_provider_needs_stays(tmp_path: Path) -> None:
    async def work(house: House) -> None:
        watch = CutWatch(
            house.db, house.audit, house.pool, {}, {"acme": "ACME_KEY", "acme-eu": "ACME_KEY"}, house.reopen
        )
        await order_cut(house.audit, FOR_GOOD)
        house.clock.time = 100.0
        await watch.look()
        assert "ACME_KEY" in os.environ
        await order_cut(house.audit, FOR_GOOD._replace(provider="acme-eu"))
        await watch.look()
        await watch.finished()
        assert "ACME_KEY" not in os.environ

    run(tmp_path, work)


def test_the_end_of_a_contract_and_an_event_are_cuts(tmp_path: Path) -> None:
    terms = {
        "acme": TermsSettings(end="1970-01-02", grace=5),
        "bolt": TermsSettings(ends_on="goal reached"),
        "home": TermsSettings(),
    }

    async def work(house: House) -> None:
        await house.look_at(86399.0)
        assert house.watch.cuts == {}
        await house.look_at(86400.5)
        assert house.watch.cuts["acme"] == Cut("acme", 86400.0, None, 5.0, "contract", "its contract ended", 86400.5)
        await house.look_at(86401.0)
        assert len(await house.audit.entries()) == 1
        assert await declare(house.audit, terms, "goal reached", "op", 86402.0) == ("bolt",)
        await house.look_at(86403.0)
        assert {*house.watch.cuts} == {"acme", "bolt"}
        with pytest.raises(ValueError, match='no contract ends on "goal"; there are goal reached'):
            await declare(house.audit, terms, "goal", "op", 86402.0)

    run(tmp_path, work, **terms)


def test_whoever_cuts_is_told_what_is_left_to_do() -> None:
    terms = Terms({"acme": TermsSettings(commitment={"amount": 1000})})
    said = " ".join(effects("acme", "ACME_KEY", terms, 400 * NANO, 0.0))
    assert "clear ACME_KEY" in said and "600.00" in said
    assert len(effects("bolt", None, terms, 0, 0.0)) == 1
