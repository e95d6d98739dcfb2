"""One call's life: what stands in the ledger, whatever becomes of the call."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.gateways import config_of, opened, provider
from tests.providers.loopback import HANG, USAGE, chunk, loopback, reply, stream

from inhouse.gateway.types import Caller

ASKED = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]}
GOOD = stream(chunk("Hel"), chunk("lo."), chunk(finish="stop"), USAGE)
COST = 7 * 1000 + 3 * 2000  # nano of what USAGE says
SPENT = "SELECT outcome, cost, low, high FROM spent ORDER BY number"


def test_an_answer_is_booked_to_the_nano(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(GOOD) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            answer = await here.post("/v1/chat/completions", ASKED)
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["message"]["content"] == "Hello."
            assert answer.headers["x-inhouse-model"] == "acme/m"
            assert there.asked[0].body["model"] == "m-up"
            (row,) = await here.rows(SPENT)
            assert row == {"outcome": "answered", "cost": COST, "low": COST, "high": COST}
            (call,) = await here.rows("SELECT id, key_id, team, asked, face, is_stream FROM calls")
            assert call["id"] == answer.headers["x-inhouse-call"]
            assert (call["key_id"], call["team"], call["asked"], call["face"]) == ("ours", "us", "m", "chat")
            assert not await here.rows("SELECT * FROM open_calls")

    asyncio.run(main())


def test_a_failure_is_booked_and_told_in_the_face_s_shape(tmp_path: Path) -> None:
    async def main() -> None:
        refusal = reply(400, {"error": {"message": "no such thing", "type": "invalid_request_error"}})
        async with loopback(refusal) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            answer = await here.post("/v1/messages", ASKED)
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
            assert [(row["outcome"], row["cost"]) for row in await here.rows(SPENT)] == [("request", 0)]

    asyncio.run(main())


def test_a_client_that_leaves_is_booked_as_an_estimate_with_bounds(tmp_path: Path) -> None:
    async def main() -> None:
        endless = stream(chunk("Hello"), HANG, done=False)
        async with loopback(endless) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            asking = asyncio.ensure_future(here.post("/v1/chat/completions", ASKED))
            while not there.asked:
                await asyncio.sleep(0.01)
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
            (row,) = await here.rows(SPENT)
            assert row["outcome"] == "client gone"
            assert row["low"] <= row["cost"] <= row["high"] and row["high"] > 0
            assert not await here.rows("SELECT * FROM open_calls")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("limits", "status", "code"),
    [
        ({"budget": 1}, 402, "insufficient_quota"),
        ({"requests_per_minute": 1}, 429, "rate_limit_exceeded"),
    ],
)
def test_who_is_over_a_limit_is_not_let_in(tmp_path: Path, limits: dict[str, Any], status: int, code: str) -> None:
    async def main() -> None:
        async with loopback(GOOD) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            here.keys["poor"] = await here.gateway.keys.create(Caller("poor", "us", **limits), "test")
            answers = [await here.post("/v1/chat/completions", ASKED, key="poor") for _ in range(2)]
            assert answers[-1].status_code == status, answers[-1].text
            assert answers[-1].json()["error"]["code"] == code
            assert len(there.asked) == sum(answer.status_code == 200 for answer in answers)

    asyncio.run(main())


def test_a_fallback_answers_and_both_attempts_are_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(reply(500, {})) as broken, loopback(GOOD) as well:
            failover = {"retries": 0}
            two = [provider(broken.url, "first"), provider(well.url, "second")]
            async with opened(config_of(tmp_path, *two, failover=failover)) as here:
                answer = await here.post("/v1/chat/completions", ASKED)
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-inhouse-model"] == "second/m"
                rows = await here.rows("SELECT provider, outcome, cost FROM spent ORDER BY number")
                assert [tuple(row.values()) for row in rows] == [("first", "server", 0), ("second", "answered", COST)]

    asyncio.run(main())


@pytest.mark.parametrize(("budget", "status"), [(70_000, 402), (100_000, 200)])
def test_an_attempt_after_one_that_may_be_billed_needs_its_own_money(tmp_path: Path, budget: int, status: int) -> None:
    """One may cost 41,000 to 45,000 nano; the first broke in the middle, and may be billed whole."""

    async def main() -> None:
        broken = stream(chunk("Hel"), done=False)
        async with loopback(broken) as first, loopback(GOOD) as second:
            two = [provider(first.url, "first"), provider(second.url, "second")]
            async with opened(config_of(tmp_path, *two)) as here:
                here.keys["poor"] = await here.gateway.keys.create(Caller("poor", "us", budget=budget), "test")
                answer = await here.post("/v1/chat/completions", ASKED, key="poor")
                assert answer.status_code == status, answer.text
                assert len(second.asked) == (status == 200)
                (meter,) = await here.rows("SELECT spent, reserved FROM meters")
                assert 0 < meter["spent"] <= budget and meter["reserved"] == 0

    asyncio.run(main())
