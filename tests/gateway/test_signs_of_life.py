"""A stream that is silent for long sends what its face allows, and has an HTTP status for as long as it is told to."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from openai import APIStatusError, AsyncOpenAI, InternalServerError
from tests.gateway.gateways import config_of, opened, provider, served
from tests.providers.loopback import HANG, USAGE, Part, chunk, loopback, reply, stream

SAID: Any = [{"role": "user", "content": "Hi"}]
SLOW = 0.5  # seconds of a provider's silence
SOON = {"failover": {"first_ping": 0.05, "retries": 0}, "server": {"ping_interval": 0.05}}
ANSWER: list[Part] = stream(chunk("He"), SLOW, chunk("llo"), SLOW, chunk(finish="stop"), USAGE)
FACES = {
    "/v1/chat/completions": ({"messages": SAID}, b": ping\n\n"),
    "/v1/completions": ({"prompt": "Hi"}, b": ping\n\n"),
    "/v1/responses": ({"input": "Hi"}, b": ping\n\n"),
    "/v1/messages": ({"messages": SAID, "max_tokens": 9}, b'event: ping\ndata: {"type":"ping"}\n\n'),
}


async def raw(url: str, key: str, path: str, body: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
    async with httpx.AsyncClient(timeout=30) as client:
        headers = {"authorization": f"Bearer {key}"}
        async with client.stream(
            "POST", url + path, json=body | {"model": "m", "stream": True}, headers=headers
        ) as got:
            return got.status_code, got.headers, b"".join([piece async for piece in got.aiter_raw()])


@pytest.mark.parametrize("path", FACES)
def test_a_held_answer_is_announced_in_the_words_of_its_face(tmp_path: Path, path: str) -> None:
    texts = path == "/v1/completions"
    said = {"id": "a", "model": "m-2", "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]}
    answer = stream(SLOW, said, {"choices": [], "usage": USAGE["usage"]}) if texts else ANSWER

    async def main() -> None:
        async with (
            loopback(answer) as there,
            opened(config_of(tmp_path, provider(there.url), **SOON)) as here,
            served(here.gateway) as url,
        ):
            body, ping = FACES[path]
            status, headers, sent = await raw(url, here.keys["ours"], path, body)
            assert status == 200 and sent.startswith(ping + ping)
            assert headers["x-inhouse-call"].startswith("call_") and "x-inhouse-model" not in headers  # not yet known
            assert sent.count(ping) < 200 and b"Hello" in sent.replace(ping, b"")

    asyncio.run(main())


def test_what_fails_before_the_first_ping_has_its_status_and_what_fails_later_is_an_event(tmp_path: Path) -> None:
    broken = [*stream(chunk("He"), SLOW, done=False)]  # ends before its answer does

    async def main(folder: Path, first_ping: float) -> tuple[int, bytes]:
        folder.mkdir()
        limits = {"failover": {"first_ping": first_ping, "retries": 0}, "server": {"ping_interval": 0.05}}
        async with (
            loopback(broken) as there,
            opened(config_of(folder, provider(there.url), **limits)) as here,
            served(here.gateway) as url,
        ):
            status, _, sent = await raw(url, here.keys["ours"], "/v1/chat/completions", {"messages": SAID})
            (row,) = await here.rows("SELECT outcome, status FROM settled")
            assert (row["outcome"], row["status"]) == ("connection", 502)
            return status, sent

    status, sent = asyncio.run(main(tmp_path / "a", 30.0))
    assert status == 502 and json.loads(sent)["error"]["code"] == "provider_connection"
    status, sent = asyncio.run(main(tmp_path / "b", 0.05))
    assert status == 200 and sent.startswith(b": ping\n\n") and b"He" not in sent
    assert json.loads(sent.split(b"data: ")[1])["error"]["code"] == "provider_connection" and b"[DONE]" not in sent


def test_a_client_that_leaves_before_the_first_ping_ends_the_call(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            loopback([b"HTTP/1.1 200 OK\r\n", HANG]) as there,
            opened(config_of(tmp_path, provider(there.url))) as here,
            served(here.gateway) as url,
        ):
            with pytest.raises(httpx.ReadTimeout):
                async with httpx.AsyncClient(timeout=0.5) as client:
                    headers = {"authorization": f"Bearer {here.keys['ours']}"}
                    body = {"model": "m", "messages": SAID, "stream": True}
                    await client.post(f"{url}/v1/chat/completions", json=body, headers=headers)
            while here.gateway.live:
                await asyncio.sleep(0.01)
            (row,) = await here.rows("SELECT outcome, status FROM settled")
            assert (row["outcome"], row["status"]) == ("client gone", 499)

    asyncio.run(main())


def test_the_official_clients_read_past_them(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            loopback(ANSWER, ANSWER, ANSWER, stream(SLOW, done=False), reply(500, {})) as there,
            opened(config_of(tmp_path, provider(there.url), **SOON)) as here,
            served(here.gateway) as url,
            AsyncOpenAI(api_key=here.keys["ours"], base_url=f"{url}/v1", max_retries=0) as openai,
            AsyncAnthropic(api_key=here.keys["ours"], base_url=url, max_retries=0) as anthropic,
        ):
            async with openai.chat.completions.stream(model="m", messages=SAID) as events:
                assert (await events.get_final_completion()).choices[0].message.content == "Hello"
            async with openai.responses.stream(model="m", input="Hi", store=False) as events:
                assert (await events.get_final_response()).output_text == "Hello"
            async with anthropic.messages.stream(model="m", max_tokens=9, messages=SAID) as messages:
                assert await messages.get_final_text() == "Hello"
            with pytest.raises(Exception, match="ended before the answer did") as failed:
                async for _ in await openai.chat.completions.create(model="m", messages=SAID, stream=True):
                    pass
            assert not isinstance(failed.value, APIStatusError)  # a failure, and no status to go by
            with pytest.raises(InternalServerError):  # refused at once: that keeps its status
                await openai.chat.completions.create(model="m", messages=SAID, stream=True)

    asyncio.run(main())
