"""The official clients against the gateway over HTTP, with strict parsing: each face, whole and as a stream."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from anthropic import BadRequestError as AnthropicBadRequest
from openai import AsyncOpenAI, AuthenticationError, BadRequestError, PermissionDeniedError
from tests.gateway.gateways import config_of, opened, provider, served
from tests.providers.loopback import Asked, Part, chunk, loopback, reply, stream

SAID: Any = [{"role": "user", "content": "Add 2 and 3."}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}


def call_chunk(arguments: str, **first: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": first.pop("name")} if first else {})
    call = {"index": 0, "function": function} | first
    return {
        "id": "a",
        "model": "m-2",
        "choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}],
    }


def upstream(asked: Asked) -> list[Part]:
    """A provider of OpenAI's dialect."""
    if asked.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
        return reply(200, {"object": "list", "model": "m-2", "data": data, "usage": {"prompt_tokens": 3}})
    if asked.path.endswith("/chat/completions"):
        if asked.body.get("tools"):
            pieces: list[Any] = [call_chunk("", id="call_1", name="add"), call_chunk('{"a"'), call_chunk(": 2}")]
            return stream(*pieces, chunk(finish="tool_calls"), {"choices": [], "usage": USAGE})
        return stream(chunk("Fi"), chunk("ve."), chunk(finish="stop"), {"choices": [], "usage": USAGE})
    text = {"id": "a", "model": "m-2", "choices": [{"index": 0, "text": " and 3", "finish_reason": "stop"}]}
    return stream(text, {"choices": [], "usage": USAGE})


def with_clients(folder: Path, work: Callable[[AsyncOpenAI, AsyncAnthropic, dict[str, str]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with (
            loopback(answer=upstream) as there,
            opened(config_of(folder, provider(there.url))) as here,
            served(here.gateway) as url,
            AsyncOpenAI(api_key=here.keys["ours"], base_url=f"{url}/v1", max_retries=0) as openai,
            AsyncAnthropic(api_key=here.keys["ours"], base_url=url, max_retries=0) as anthropic,
        ):
            await work(openai, anthropic, here.keys)
            await here.gateway.drained()
            open_calls = await here.gateway.db.read("SELECT * FROM open_calls")
            assert not open_calls

    asyncio.run(main())


def test_chat(tmp_path: Path) -> None:
    async def work(openai: AsyncOpenAI, anthropic: AsyncAnthropic, keys: dict[str, str]) -> None:
        answer = await openai.chat.completions.create(model="m", messages=SAID)
        assert answer.choices[0].message.content == "Five." and answer.model == "m-2"
        assert answer.usage and (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 4)
        assert answer.usage.prompt_tokens_details and answer.usage.prompt_tokens_details.cached_tokens == 2

        options: Any = {"include_usage": True}
        async with openai.chat.completions.stream(model="m", messages=SAID, stream_options=options) as events:
            final = await events.get_final_completion()
        assert final.choices[0].message.content == "Five." and final.usage and final.usage.total_tokens == 13

        tools: Any = [TOOL]
        called = await openai.chat.completions.create(model="m", messages=SAID, tools=tools)
        (call,) = called.choices[0].message.tool_calls or []
        assert (call.id, call.type, called.choices[0].finish_reason) == ("call_1", "function", "tool_calls")
        async with openai.chat.completions.stream(model="m", messages=SAID, tools=tools) as events:
            final = await events.get_final_completion()
        (streamed,) = final.choices[0].message.tool_calls or []
        assert streamed.function.arguments == '{"a": 2}' == call.function.arguments  # type: ignore[union-attr]

    with_clients(tmp_path, work)


def test_responses_completions_embeddings_and_models(tmp_path: Path) -> None:
    async def work(openai: AsyncOpenAI, anthropic: AsyncAnthropic, keys: dict[str, str]) -> None:
        response = await openai.responses.create(model="m", input="Add 2 and 3.", store=False)
        assert response.output_text == "Five." and response.usage and response.usage.total_tokens == 13
        async with openai.responses.stream(model="m", input="Add 2 and 3.", store=False) as events:
            final = await events.get_final_response()
        assert final.output_text == "Five." and final.model == "m-2"

        text = await openai.completions.create(model="m", prompt="2")
        assert text.choices[0].text == " and 3" and text.usage and text.usage.total_tokens == 13
        pieces = [piece async for piece in await openai.completions.create(model="m", prompt="2", stream=True)]
        assert "".join(piece.choices[0].text for piece in pieces) == " and 3"

        vectors = await openai.embeddings.create(model="m", input="a")  # as base64, which the client unpacks
        assert vectors.data[0].embedding == [0.5, -0.25] and vectors.usage.prompt_tokens == 3
        assert [card.id async for card in openai.models.list()] == ["auto", "m"]
        assert (await openai.models.retrieve("m")).owned_by == "acme"

    with_clients(tmp_path, work)


def test_messages(tmp_path: Path) -> None:
    async def work(openai: AsyncOpenAI, anthropic: AsyncAnthropic, keys: dict[str, str]) -> None:
        answer = await anthropic.messages.create(model="m", max_tokens=9, messages=SAID)
        assert answer.content[0].type == "text" and answer.content[0].text == "Five."
        assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.model) == (7, 4, "m-2")
        async with anthropic.messages.stream(model="m", max_tokens=9, messages=SAID) as events:
            final = await events.get_final_message()
        assert final.usage == answer.usage and final.content[0].text == "Five."  # type: ignore[union-attr]
        tools: Any = [{"name": "add", "input_schema": {"type": "object", "properties": {}}}]
        async with anthropic.messages.stream(model="m", max_tokens=9, messages=SAID, tools=tools) as events:
            called = await events.get_final_message()
        assert called.content[0].type == "tool_use" and called.content[0].input == {"a": 2}
        assert called.stop_reason == "tool_use"
        with pytest.raises(AnthropicBadRequest, match="does not count"):
            await anthropic.messages.count_tokens(model="m", messages=SAID)

    with_clients(tmp_path, work)


def test_refusals_are_the_clients_own_exceptions(tmp_path: Path) -> None:
    async def work(openai: AsyncOpenAI, anthropic: AsyncAnthropic, keys: dict[str, str]) -> None:
        with pytest.raises(BadRequestError, match="top_k"):
            await openai.chat.completions.create(model="m", messages=SAID, extra_body={"top_k": 3})
        with pytest.raises(AuthenticationError):
            await openai.with_options(api_key="ih-wrong").models.list()
        with pytest.raises(PermissionDeniedError):
            await openai.with_options(api_key=keys["theirs"]).models.list()

    with_clients(tmp_path, work)
