"""What Prometheus reads: every line well formed, labels by provider, model, task and outcome."""

import asyncio
import re
from pathlib import Path

from tests.gateway.gateways import config_of, opened, provider
from tests.providers.loopback import USAGE, chunk, loopback, reply, stream

from inhouse.api.metrics import sample
from inhouse.gateway.types import Caller

LINE = re.compile(r'inhouse_[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.e+-]+')
CHAT = {"model": "auto:math", "messages": [{"role": "user", "content": "Add."}]}


def test_calls_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    async def main() -> None:
        broken = reply(400, {"error": {"message": "no"}})
        async with (
            loopback(stream(chunk("Hi"), chunk(finish="stop"), USAGE), broken) as there,
            opened(config_of(tmp_path, provider(there.url))) as here,
        ):
            assert (await here.post("/v1/chat/completions", CHAT)).status_code == 200
            assert (await here.post("/v1/chat/completions", CHAT)).status_code == 400
            await here.gateway.drained()
            here.keys["prometheus"] = await here.gateway.keys.create(Caller("p", "p", faces=("metrics",)), "test")
            headers = {"authorization": f"Bearer {here.keys['prometheus']}"}
            page = (await here.client.get("/metrics", headers=headers)).text
            assert (await here.client.get("/metrics", headers={"x-api-key": here.keys["ours"]})).status_code == 403
            lines = page.splitlines()
            assert [line for line in lines if not line.startswith("#") and not LINE.fullmatch(line)] == []
            of = 'provider="acme",model="m"'
            for line in (
                'inhouse_gateway_calls_total{face="chat",task="math",outcome="answered"} 1',
                'inhouse_gateway_calls_total{face="chat",task="math",outcome="request"} 1',
                f'inhouse_gateway_attempts_total{{{of},outcome="answered"}} 1',
                f'inhouse_gateway_tokens_total{{{of},kind="prompt"}} 7',
                f'inhouse_gateway_cost_total{{{of},task="math",currency="USD"}} 0.000013000',
                f"inhouse_gateway_first_token_seconds_count{{{of}}} 1",
                f"inhouse_gateway_breaker{{{of}}} 0",
                'inhouse_gateway_provider_open{provider="acme"} 1',
                "inhouse_gateway_calls_under_way 0",
                "inhouse_gateway_open_calls 0",
                'inhouse_gateway_reserved{currency="USD"} 0.000000000',
                'inhouse_requests_total{path="/v1/chat/completions",status="200"} 1',
            ):
                assert line in lines, line

    asyncio.run(main())


def test_what_stands_in_a_label_stays_in_it() -> None:
    assert sample("a", 1, b='x"} 2\n\\') == 'inhouse_a{b="x\\"} 2\\n\\\\"} 1'
