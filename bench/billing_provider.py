"""A provider on loopback that keeps its own bill, to the token, of cut streams as well.

    python bench/billing_provider.py --bill bill.jsonl        # prints its port

It speaks OpenAI's chat completions and Anthropic's messages. What it does stands in the prompt, as `name=value`:

* `tokens` of the answer (16); the first comes after `delay` seconds (0), and `rate` each second (0: at once);
* `fail`: a status that is answered at once and costs nothing;
* `cut`: the connection is dropped behind so many tokens; these are billed;
* `silent`: the answer does not say what was used;
* `once`: the last three hold for the first request of this tag only;
* `tag`: what the bill calls the request.

A line of the bill is written when the answer is over, however it ends. Who leaves is noticed at the next token, and
pays for the prompt and what was sent. A prompt has a token for every four bytes, and eight more; an answer's tokens are
"word ".
"""

import argparse
import asyncio
import json
import re
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

INPUT, OUTPUT = Decimal(2), Decimal(8)  # dollars a million tokens
MODELS = {"/v1/chat/completions": "bill-1", "/v1/messages": "bill-2"}  # the only one of each dialect
WORD = "word "
_SAID = re.compile(r"\b(tokens|delay|rate|fail|cut|silent|once|tag)=([\w.-]+)")


class Wish(NamedTuple):
    """What a request asks for."""

    tag: str
    is_chat: bool
    is_stream: bool
    prompt: int
    tokens: int
    delay: float
    rate: float
    fail: int
    cut: int | None
    is_silent: bool
    is_once: bool


class Provider:
    """Answers, and bills."""

    def __init__(self, bill: IO[str]) -> None:
        self._bill, self._number = bill, 0
        self._seen: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await _head(reader):
                path, length = head
                body = await reader.readexactly(length)
                if path not in MODELS:  # whoever only looks whether somebody is there
                    writer.write(_whole({"error": {"message": "no such page"}}, 404))
                    continue
                wish = _wish(path, json.loads(body))
                if wish.is_once and wish.tag in self._seen:
                    wish = wish._replace(fail=0, cut=None, is_silent=False)
                self._seen.add(wish.tag)
                if wish.fail:
                    writer.write(_whole({"error": {"message": "asked to fail", "type": "server_error"}}, wish.fail))
                elif not await self._answer(wish, reader, writer):
                    writer.transport.abort()
                    return
        writer.close()

    async def _answer(self, wish: Wish, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection is still good afterwards. The bill is written in every case."""
        self._number += 1
        sent = 0
        try:
            writer.write(_BEGIN) if wish.is_stream else None
            writer.write(_opening(wish, self._number)) if wish.is_stream else None
            start = time.monotonic() + wish.delay
            for sent in range(wish.tokens):
                due = start + (sent / wish.rate if wish.rate else 0.0)
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if sent == wish.cut or reader.at_eof() or writer.is_closing():
                    return False
                if wish.is_stream:
                    writer.write(_CHAT_TOKEN if wish.is_chat else _MESSAGE_TOKEN)
                    await writer.drain()
            sent = wish.tokens
            writer.write(_ending(wish) if wish.is_stream else _whole(_in_one(wish, self._number), 200))
            await writer.drain()
            return True
        finally:
            self._book(wish, sent)

    def _book(self, wish: Wish, completion: int) -> None:
        cost = (wish.prompt * INPUT + completion * OUTPUT) / 10**6
        line = {
            "tag": wish.tag, "day": datetime.now(UTC).date().isoformat(), "model": _model(wish.is_chat),
            "prompt": wish.prompt, "completion": completion, "cost": str(cost),
        }  # fmt: skip
        self._bill.write(json.dumps(line) + "\n")
        self._bill.flush()


async def _head(reader: asyncio.StreamReader) -> tuple[str, int] | None:
    """The path and the length of the body; None at the connection's end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    except asyncio.IncompleteReadError:
        return None
    found = re.search(r"content-length: *(\d+)", head)
    return head.split(" ", 2)[1], int(found[1]) if found else 0


def _wish(path: str, body: dict[str, Any]) -> Wish:
    texts = [str(body.get("system", "")), *(_text(message.get("content")) for message in body["messages"])]
    said = dict(_SAID.findall(" ".join(texts)))
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 4096
    return Wish(
        tag=said.get("tag", ""),
        is_chat=path.endswith("/chat/completions"),
        is_stream=bool(body.get("stream")),
        prompt=8 + sum(len(text.encode()) for text in texts) // 4,
        tokens=min(int(said.get("tokens", 16)), most),
        delay=float(said.get("delay", 0)),
        rate=float(said.get("rate", 0)),
        fail=int(said.get("fail", 0)),
        cut=int(said["cut"]) if "cut" in said else None,
        is_silent="silent" in said,
        is_once="once" in said,
    )


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _model(is_chat: bool) -> str:
    return MODELS["/v1/chat/completions" if is_chat else "/v1/messages"]


_BEGIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(data: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def _choice(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _event({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": _model(True),
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    })  # fmt: skip


_CHAT_TOKEN = _chunk(_choice({"content": WORD}))
_MESSAGE_TOKEN = _chunk(
    _event(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORD}},
        "content_block_delta",
    )
)


def _opening(wish: Wish, number: int) -> bytes:
    if wish.is_chat:
        return _chunk(_choice({"role": "assistant", "content": ""}))
    message = {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": _model(False), "content": [],
        "usage": {} if wish.is_silent else {"input_tokens": wish.prompt, "output_tokens": 1},
    }  # fmt: skip
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return _chunk(
        _event({"type": "message_start", "message": message}, "message_start") + _event(block, "content_block_start")
    )


def _ending(wish: Wish) -> bytes:
    if wish.is_chat:
        usage = b"" if wish.is_silent else _event({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": _model(True), "choices": [],
            "usage": _usage(wish),
        })  # fmt: skip
        return _chunk(_choice({}, "stop") + usage + b"data: [DONE]\n\n") + b"0\r\n\r\n"
    stop: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    if not wish.is_silent:
        stop["usage"] = {"output_tokens": wish.tokens}
    end = _event({"type": "content_block_stop", "index": 0}, "content_block_stop") + _event(stop, "message_delta")
    return _chunk(end + _event({"type": "message_stop"}, "message_stop")) + b"0\r\n\r\n"


def _usage(wish: Wish) -> dict[str, int]:
    return {
        "prompt_tokens": wish.prompt, "completion_tokens": wish.tokens, "total_tokens": wish.prompt + wish.tokens,
    }  # fmt: skip


def _in_one(wish: Wish, number: int) -> dict[str, Any]:
    text = WORD * wish.tokens
    answer: dict[str, Any]
    if wish.is_chat:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        answer = {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": _model(True),
            "choices": [choice], "usage": _usage(wish),
        }  # fmt: skip
    else:
        answer = {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": _model(False),
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
            "usage": {"input_tokens": wish.prompt, "output_tokens": wish.tokens},
        }  # fmt: skip
    if wish.is_silent:
        del answer["usage"]
    return answer


def _whole(answer: dict[str, Any], status: int) -> bytes:
    raw = json.dumps(answer).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n".encode() + raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bill", type=Path, required=True)
    options = parser.parse_args()

    async def run(bill: IO[str]) -> None:
        server = await asyncio.start_server(Provider(bill).serve, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    with options.bill.open("a", encoding="utf-8") as bill, suppress(KeyboardInterrupt):
        if sys.platform == "win32":
            asyncio.run(run(bill))
        else:
            import uvloop

            uvloop.run(run(bill))


if __name__ == "__main__":
    main()
