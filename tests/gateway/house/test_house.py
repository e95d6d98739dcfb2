"""A model of one's own has traffic while it is well, and its process never outlives the gateway."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from inhouse.gateway.failover.pool import Pool, ProviderCut
from inhouse.gateway.house.house import KEY_VARIABLE, House, houses
from inhouse.gateway.settings import ModelSettings, ProviderSettings
from inhouse.providers.endpoint import Endpoint

FAKE = (sys.executable, "-S", str(Path(__file__).with_name("fake_serve.py")))


def provider(run: Path) -> ProviderSettings:
    return ProviderSettings(name="preview", dialect="inhouse", run=run, model=(ModelSettings(name="preview"),))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.02)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def process_of(run: Path) -> int:
    return int((run / "started").read_text().split("\n")[0])


def test_it_is_open_while_it_runs_and_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-1")
    pool = Pool({}, {})

    async def live() -> None:
        house = House(provider(tmp_path), pool, {"ACME_KEY"}, FAKE, wait=lambda failures: 0.0)
        house.start()
        await until(lambda: pool.is_open("preview"))
        (target,) = provider(tmp_path).targets()
        first, process = pool.endpoint(target), process_of(tmp_path)
        said = (tmp_path / "started").read_text()
        assert "--port 0" in said and "--name preview" in said
        assert KEY_VARIABLE in said and "ACME_KEY" not in said
        os.kill(process, signal.SIGKILL)
        await until(lambda: pool.is_open("preview") and pool.endpoint(target) is not first)
        assert house.starts == 2
        second = process_of(tmp_path)
        await house.stop()
        assert not is_alive(second)
        with pytest.raises(ProviderCut):
            pool.endpoint(target)

    asyncio.run(live())


def test_one_that_does_not_start_is_tried_later_and_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "broken").touch()
    pool, waits = Pool({}, {}), []

    async def live() -> None:
        house = House(provider(tmp_path), pool, (), FAKE, wait=lambda failures: waits.append(failures) or 0.0)
        house.start()
        await until(lambda: len(waits) == 2)
        await house.stop()

    asyncio.run(live())
    assert waits == [0, 1]
    assert not pool.is_open("preview")
    assert "it did not start (no model here)" in caplog.text


def test_one_that_cannot_be_run_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def live() -> None:
        house = House(provider(tmp_path), Pool({}, {}), (), ("/no/such/program",), wait=lambda failures: 0.01)
        house.start()
        await until(lambda: house.starts >= 2)
        await house.stop()

    asyncio.run(live())
    assert "preview: it cannot be started ([Errno 2] No such file or directory: '/no/such/program')" in caplog.text


def test_one_that_is_ill_has_no_traffic(tmp_path: Path) -> None:
    (tmp_path / "ill").touch()
    pool = Pool({}, {})

    async def live() -> None:
        async with houses([provider(tmp_path)], pool, command=FAKE) as found:
            await until((tmp_path / "started").exists)
            await asyncio.sleep(0.3)
            assert not pool.is_open("preview")
            (tmp_path / "ill").unlink()
            await until(lambda: pool.is_open("preview"))
            assert found["preview"].starts == 1

    asyncio.run(live())
    assert not is_alive(process_of(tmp_path))


def test_one_that_says_no_more_that_it_is_well_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("inhouse.gateway.house.house._CHECK_EVERY", 0.02)
    pool = Pool({}, {})

    async def live() -> None:
        house = House(provider(tmp_path), pool, (), FAKE, wait=lambda failures: 0.0)
        house.start()
        await until(lambda: pool.is_open("preview"))
        first = process_of(tmp_path)
        (tmp_path / "ill").touch()
        await until(lambda: house.starts == 2)
        assert not pool.is_open("preview") and not is_alive(first)
        await house.stop()

    asyncio.run(live())
    assert "preview: it hung; it is started again" in caplog.text


async def once_up(house: House) -> Endpoint:
    while True:
        with suppress(ValueError):
            return await house.endpoint()
        await asyncio.sleep(0.01)


def test_one_that_was_cut_stays_up_without_traffic_and_comes_back(tmp_path: Path) -> None:
    pool, cut = Pool({}, {}), {"preview"}

    async def live() -> None:
        async with houses([provider(tmp_path)], pool, lambda name: name not in cut, FAKE) as found:
            with pytest.raises(ValueError, match="preview is not up"):
                await found["preview"].endpoint()
            endpoint = await once_up(found["preview"])
            assert not pool.is_open("preview")
            cut.clear()
            pool.open("preview", endpoint)
            assert found["preview"].starts == 1

    asyncio.run(live())


def test_it_ends_with_a_gateway_that_is_killed() -> None:
    child = (
        "import threading, time; from inhouse.common.processes import end_with_parent\n"
        "threading.Thread(target=end_with_parent).start(); print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    process.stdin.close()  # as the kernel does for whoever held it
    assert process.wait(30) == 1
