"""A real model of one's own behind the gateway says what it says without it."""

import asyncio
import json
from pathlib import Path

import httpx
from bench import tiny_server
from tests.gateway.gateways import config_of, opened, provider

ASKED = {"messages": [{"role": "user", "content": "What is 2 + 3?"}], "max_tokens": 8, "temperature": 0.0}


def test_it_says_the_same_whole_streamed_and_asked_directly(tmp_path: Path) -> None:
    async def main(url: str) -> None:
        own = provider(url, "house", tiny_server.NAME)
        own["model"][0]["upstream"] = tiny_server.NAME
        async with opened(config_of(tmp_path, own)) as here, httpx.AsyncClient(timeout=60) as http:
            body = ASKED | {"model": tiny_server.NAME}
            direct = (await http.post(f"{url}/v1/chat/completions", json=body)).json()
            answer = await here.post("/v1/chat/completions", body)
            assert answer.json()["choices"][0]["message"] == direct["choices"][0]["message"]
            assert answer.json()["usage"]["completion_tokens"] == direct["usage"]["completion_tokens"] == 8
            assert answer.headers["x-inhouse-model"] == f"house/{tiny_server.NAME}"

            raw = (await here.post("/v1/chat/completions", body | {"stream": True})).text
            chunks = [json.loads(line[6:]) for line in raw.split("\n") if line.startswith("data: {")]
            said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
            assert said == direct["choices"][0]["message"]["content"]

            message = await here.post("/v1/messages", body | {"model": "auto"})
            assert message.json()["content"][0]["text"] == said
            (row,) = await here.rows("SELECT decision FROM calls WHERE asked = 'auto'")
            assert json.loads(row["decision"])["order"] == [["house", tiny_server.NAME, tiny_server.NAME]]
            assert message.headers["x-inhouse-decision"].isascii()

    with tiny_server.served(256) as url:
        asyncio.run(main(url))
