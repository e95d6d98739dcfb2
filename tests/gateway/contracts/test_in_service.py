"""Cuts and roll-outs as callers of a running gateway see them."""

import asyncio
from pathlib import Path

from tests.gateway.gateways import config_of, opened, provider
from tests.providers.loopback import HANG, USAGE, chunk, loopback, stream

from inhouse.gateway.contracts.cut import lift_cut, order_cut
from inhouse.gateway.contracts.terms import Cut

ASKED = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "Add 1 and 2."}]}
GOOD = stream(chunk("Hel"), chunk("lo."), chunk(finish="stop"), USAGE)
STUCK = stream(chunk("He"), HANG, done=False)


def test_a_stream_under_way_goes_on_elsewhere_after_a_cut_and_no_new_call_goes_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(STUCK, GOOD) as acme, loopback(GOOD) as bolt:
            config = config_of(tmp_path, provider(acme.url), provider(bolt.url, "bolt"))
            async with opened(config) as here:
                gateway = here.gateway
                asking = asyncio.ensure_future(here.post("/v1/chat/completions", ASKED))
                while not acme.asked:
                    await asyncio.sleep(0.01)
                now = gateway.db.now()
                await order_cut(gateway.audit, Cut("acme", now, None, 0.0, "op", "its price", now))
                await gateway.cuts.look()
                answer = await asyncio.wait_for(asking, 20)
                assert answer.json()["choices"][0]["message"]["content"] == "Hello."
                assert answer.headers["x-inhouse-model"] == "bolt/m"
                again = await here.post("/v1/chat/completions", ASKED)
                assert again.headers["x-inhouse-model"] == "bolt/m" and len(acme.asked) == 1
                outcomes = [row["outcome"] for row in await here.rows("SELECT outcome FROM spent ORDER BY at, number")]
                assert outcomes == ["cut", "answered", "answered"]
                await lift_cut(gateway.audit, "acme", "op")
                await gateway.cuts.look()
                assert gateway.pool.is_open("acme") and gateway.terms.why_ended("acme", now + 1) is None

    asyncio.run(main())


def test_a_conversation_that_a_roll_out_has_reached_gets_the_new_model(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(GOOD) as acme, loopback(GOOD) as bolt:
            config = config_of(
                tmp_path, provider(acme.url), provider(bolt.url, "bolt", "new"),
                rollout=[{"task": "math", "model": "new", "steps": [1.0]}],
            )  # fmt: skip
            async with opened(config) as here:
                answer = await here.post("/v1/chat/completions", ASKED | {"model": "auto"})
                assert answer.headers["x-inhouse-model"] == "bolt/new", answer.text
                standing = here.gateway.rollouts.standings["math"]
                here.gateway.rollouts.standings["math"] = standing._replace(outcome="rolled back")
                other = ASKED | {"model": "auto", "user": "another conversation"}
                assert (await here.post("/v1/chat/completions", other)).headers["x-inhouse-model"] == "acme/m"

    asyncio.run(main())
