"""What clients of Anthropic's API rely on reaches an Anthropic provider and comes back: cache_control, thinking with
its signature, and what the cache cost."""

import asyncio
import json
from pathlib import Path
from typing import Any

from anthropic import AsyncAnthropic
from tests.gateway.gateways import config_of, opened, provider, served
from tests.providers.loopback import USAGE as OF_OPENAI
from tests.providers.loopback import Asked, Part, chunk, loopback, reply, stream

HOUR = {"type": "ephemeral", "ttl": "1h"}
PRICE = [{
    "currency": "USD", "input": 3.0, "cached": 0.3, "written": 3.75, "written_1h": 6.0, "output": 15.0,
}]  # fmt: skip
TOOL: Any = {"name": "add", "input_schema": {"type": "object", "properties": {}}, "cache_control": HOUR}
USAGE = {
    "input_tokens": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 300, "output_tokens": 1,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
}  # fmt: skip
THOUGHT: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Two and three.", "signature": "c2lnbmVk"},
    {"type": "redacted_thinking", "data": "c2VhbGVk"},
    {"type": "text", "text": "I add."},
    {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2}},
]


def anthropic_provider(url: str, **more: Any) -> dict[str, Any]:
    model = {"name": "m", "upstream": "m-up", "max_output": 4000, "price": PRICE}
    return provider(url) | {"dialect": "anthropic", "model": [model]} | more


def said(asked: Asked | None = None) -> list[Part]:
    """An answer that thinks, with a thought that is sealed, and calls a tool."""
    grown = {"thinking": ("thinking_delta", "thinking"), "text": ("text_delta", "text")}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "m-2", "usage": USAGE}}
    ]
    for index, block in enumerate(THOUGHT):
        at = {"index": index}
        if kind := grown.get(block["type"]):
            events.append(at | {"type": "content_block_start", "content_block": {"type": block["type"], kind[1]: ""}})
            events.append(at | {"type": "content_block_delta", "delta": {"type": kind[0], kind[1]: block[kind[1]]}})
        else:
            events.append(at | {"type": "content_block_start", "content_block": block})
        if signature := block.get("signature"):
            delta = {"type": "signature_delta", "signature": signature}
            events.append(at | {"type": "content_block_delta", "delta": delta})
        events.append(at | {"type": "content_block_stop"})
    events += [
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}},
        {"type": "message_stop"},
    ]
    return stream(*(f"data: {json.dumps(event)}\n\n".encode() for event in events), done=False)


def request(*more: dict[str, Any]) -> Any:
    return {
        "model": "m", "max_tokens": 2000, "tools": [TOOL], "thinking": {"type": "adaptive"}, "cache_control": HOUR,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "2+3?", "cache_control": {"type": "ephemeral"}}]},
            *more,
        ],
    }  # fmt: skip


RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "5", "is_error": False, "cache_control": HOUR}


def test_a_turn_with_thinking_and_a_tool_goes_back_as_it_came(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            loopback(answer=said) as there,
            opened(config_of(tmp_path, anthropic_provider(there.url))) as here,
            served(here.gateway) as url,
            AsyncAnthropic(api_key=here.keys["ours"], base_url=url, max_retries=0) as client,
        ):
            answer = await client.messages.create(**request())
            content = [block.model_dump(exclude_none=True) for block in answer.content]
            assert content == THOUGHT
            async with client.messages.stream(**request()) as events:
                streamed = await events.get_final_message()
            assert [block.model_dump(exclude_none=True) for block in streamed.content] == THOUGHT
            turns = ({"role": "assistant", "content": content}, {"role": "user", "content": [RESULT]})
            await client.messages.create(**request(*turns))
            sent = there.asked[-1].body
            whole = request(*turns) | {"model": "m-up", "stream": True}
            whole["messages"][2]["content"] = [RESULT | {"content": [{"type": "text", "text": "5"}]}]
            assert sent == whole

    asyncio.run(main())


def test_what_the_cache_gave_and_got_is_booked_by_its_own_prices(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(answer=said) as there, opened(config_of(tmp_path, anthropic_provider(there.url))) as here:
            answer = (await here.post("/v1/messages", request())).json()
            # the provider's own figures, but for the output, which is known in the end
            assert answer["usage"] == USAGE | {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 0}}
            (row,) = await here.rows("SELECT * FROM spent")
            counts = (row["prompt"], row["cached"], row["written"], row["written_1h"], row["completion"])
            assert counts == (1310, 1000, 300, 200, 20)
            # micro-units: 10 fresh at 3, 1000 read at .3, 100 and 200 written at 3.75 and 6, 20 said at 15
            assert row["cost"] == row["low"] == row["high"] == 1000 * (30 + 300 + 375 + 1200 + 300)
            sums = (await here.client.get("/admin/spend/model", headers={"x-api-key": here.keys["admin"]})).json()
            assert [(each["written"], each["written_1h"]) for each in sums["spend"]] == [(300, 200)]

            chat = {"model": "m", "messages": [{"role": "user", "content": "2+3?"}], "max_tokens": 2000}
            usage = (await here.post("/v1/chat/completions", chat)).json()["usage"]
            assert usage["prompt_tokens"] == 1310
            assert usage["prompt_tokens_details"] == {"cached_tokens": 1000, "cache_write_tokens": 300}

    asyncio.run(main())


def test_thoughts_of_another_model_are_left_out_and_hints_for_a_cache_elsewhere(tmp_path: Path) -> None:
    unsigned = [{"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "text", "text": "Well."}]
    turns = ({"role": "assistant", "content": unsigned}, {"role": "user", "content": "So?"})
    answers = iter((reply(500, {}), said()))
    second = anthropic_provider("", name="other", dialect="openai")

    async def main() -> None:
        async with (
            loopback(stream(chunk("5"), chunk(finish="stop"), OF_OPENAI)) as other,
            loopback(answer=lambda _: next(answers)) as there,
            opened(
                config_of(tmp_path, anthropic_provider(there.url), second | {"url": other.url}, failover={"retries": 0})
            ) as here,
        ):
            for talk in ("a", "b"):
                answer = await here.post("/v1/messages", request(*turns), **{"x-conversation-id": talk})
                assert answer.status_code == 200, answer.text
            (elsewhere,) = other.asked  # it stood in for the first
            assert "cache_control" not in json.dumps(elsewhere.body) and "Hm." not in json.dumps(elsewhere.body)
            assert "thinking" not in elsewhere.body
            assert there.asked[-1].body["messages"][1] == {"role": "assistant", "content": unsigned[1:]}

    asyncio.run(main())


def test_who_may_think_is_waited_for(tmp_path: Path) -> None:
    slow = said()
    slow.insert(2, 0.5)  # seconds behind message_start
    second = anthropic_provider("", name="other", dialect="openai")

    async def main() -> None:
        async with (
            loopback(slow) as there,
            loopback(stream(chunk("5"), chunk(finish="stop"), OF_OPENAI)) as other,
            opened(
                config_of(
                    tmp_path, anthropic_provider(there.url), second | {"url": other.url}, failover={"first_token": 0.1}
                )
            ) as here,
        ):
            thinking = await here.post("/v1/messages", request(), **{"x-conversation-id": "a"})
            plain = request() | {"thinking": {"type": "disabled"}}
            hasty = await here.post("/v1/messages", plain, **{"x-conversation-id": "b"})
            models = [answer.headers["x-inhouse-model"] for answer in (thinking, hasty)]
            assert models == ["acme/m", "other/m"], (thinking.text, hasty.text)

    asyncio.run(main())


def test_a_stream_says_what_it_reads_in_its_beginning(tmp_path: Path) -> None:
    async def started(folder: Path, *answer: list[Part], dialect: str = "anthropic", recovery: str = "off") -> Any:
        folder.mkdir()
        async with loopback(*answer) as there:
            one = anthropic_provider(there.url) if dialect == "anthropic" else provider(there.url)
            async with opened(config_of(folder, one, failover={"stream_recovery": recovery})) as here:
                body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * 400}]}
                lines = (await here.post("/v1/messages", body | {"stream": True})).text.split("\n")
        events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
        (delta,) = [event for event in events if event["type"] == "message_delta"]
        return events[0]["message"]["usage"], delta["usage"]

    plain = stream(chunk("5"), chunk(finish="stop"), OF_OPENAI)
    start, end = asyncio.run(started(tmp_path / "a", said()))
    assert (start["input_tokens"], start["cache_read_input_tokens"]) == (10, 1000)  # the provider's own, at once
    assert end | {"output_tokens": 0} == start
    start, end = asyncio.run(started(tmp_path / "b", plain, dialect="openai", recovery="hold"))
    assert (start["input_tokens"], end["input_tokens"]) == (7, 7)  # it is known by then
    start, end = asyncio.run(started(tmp_path / "c", plain, dialect="openai"))
    assert 100 <= start["input_tokens"] <= 110 and end["input_tokens"] == 7  # about; the end counts
    start, end = asyncio.run(started(tmp_path / "d", plain[:3], dialect="openai"))
    assert end == start  # who never says it is not said to have read nothing


def test_a_stream_that_is_cut_has_read_what_its_provider_said(tmp_path: Path) -> None:
    async def main() -> None:
        cut = said()[:3]
        async with (
            loopback(cut) as there,
            opened(config_of(tmp_path, anthropic_provider(there.url), failover={"retries": 0})) as here,
        ):
            assert (await here.post("/v1/messages", request())).status_code == 502
            (row,) = await here.rows("SELECT * FROM spent")
            assert (row["prompt"], row["cached"], row["written"], row["is_estimate"]) == (1310, 1000, 300, 1)

    asyncio.run(main())
