"""Vectors: who asks to be left alone is, and no team finds in a cache what another has asked for."""

import asyncio
from pathlib import Path

from tests.gateway.gateways import PRICE, config_of, opened, opened_in_house, provider
from tests.providers.loopback import loopback, reply

BODY = {"model": "m", "input": "Hi"}
VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}
ANSWER = reply(200, {"object": "list", "model": "m-2", "data": [VECTOR], "usage": {"prompt_tokens": 3}})
BUSY = {"error": {"message": "too many", "code": "rate_limit_exceeded"}}


def test_a_short_wait_is_waited_for_and_a_long_one_is_handed_on(tmp_path: Path) -> None:
    async def main() -> None:
        soon, late = reply(429, BUSY, retry_after_ms="50"), reply(429, BUSY, retry_after="600")
        async with loopback(soon, ANSWER, late) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            assert (await here.post("/v1/embeddings", BODY)).status_code == 200 and len(there.asked) == 2
            refused = await here.post("/v1/embeddings", BODY)
            assert refused.status_code == 429 and 590 < int(refused.headers["retry-after"]) <= 600
            assert len(there.asked) == 3
            again = await here.post("/v1/embeddings", BODY)
            assert again.status_code == 429 and int(again.headers["retry-after"]) > 500
            assert len(there.asked) == 3  # nobody was asked before the time
            rows = await here.rows("SELECT outcome FROM spent ORDER BY at, number")
            assert [row["outcome"] for row in rows] == ["rate limit", "answered", "rate limit"]

    asyncio.run(main())


def test_who_has_the_same_model_answers_for_one_that_is_busy(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(reply(429, BUSY, retry_after="600")) as busy, loopback(ANSWER) as other:
            config = config_of(tmp_path, provider(busy.url), provider(other.url, "other"))
            async with opened(config) as here:
                for _ in range(2):
                    assert (await here.post("/v1/embeddings", BODY)).status_code == 200
                assert (len(busy.asked), len(other.asked)) == (1, 2)

    asyncio.run(main())


def test_each_team_has_its_salt_at_a_model_of_ones_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(ANSWER) as there:
            async with opened_in_house(tmp_path, there.url) as here:
                for key, more in (("ours", {}), ("ours", {}), ("admin", {}), ("ours", {"cache_salt": "s"})):
                    assert (await here.post("/v1/embeddings", BODY | more, key=key)).status_code == 200
            first, same, other, salted = (asked.body["cache_salt"] for asked in there.asked)
            assert first == same and len({first, other, salted}) == 3

    asyncio.run(main())


def test_a_salt_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(ANSWER) as there:
            models = [{"name": "m", "price": PRICE}]
            async with opened(config_of(tmp_path, provider(there.url, model="m") | {"model": models})) as here:
                refused = await here.post("/v1/embeddings", BODY | {"cache_salt": "s"})
                assert refused.status_code == 400 and "cache_salt" in refused.text and not there.asked

    asyncio.run(main())
