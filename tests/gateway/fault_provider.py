"""A provider on loopback that fails as it is told to: it speaks the streams of three dialects.

`async with FaultProvider("anthropic", "model-b", behave) as provider` answers at `provider.url`; `behave` says for each
request, by its number, what happens. Times are seconds on the event loop's clock.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

Dialect = Literal["openai", "anthropic", "gemini"]
TOKEN_GAP = 0.02


class Fault(NamedTuple):
    """What happens to one request; nothing of it: a whole answer."""

    status: int = 200
    message: str = "it is broken"
    code: str = "server_error"
    retry_after: float | None = None
    is_reset: bool = False  # the connection breaks before a header comes
    is_silent: bool = False  # the request is read, and nothing ever comes
    first_token: float = 0.1  # seconds
    cut_after: int | None = None  # tokens
    error_after: int | None = None  # tokens; then what `status`, `message` and `code` say, within the stream
    stall_after: int | None = None  # tokens
    stall: float = 0.0
    malformed_after: int | None = None  # tokens
    has_end: bool = True  # else neither the stream's last word nor the connection's end
    finish: Literal["stop", "length", "content_filter"] = "stop"
    usage: tuple[int, int] | None = (11, 60)


class Asked(NamedTuple):
    at: float  # on the loop's clock
    path: str
    body: Any

    @property
    def prefill(self) -> str | None:
        """The text of a last message of the assistant's."""
        said = (self.body.get("messages") or self.body.get("contents"))[-1]
        if said["role"] not in ("assistant", "model"):
            return None
        parts = said.get("content", said.get("parts"))
        return parts if isinstance(parts, str) else "".join(part["text"] for part in parts)


Behaviour = Callable[[int, Asked], Fault]


class FaultProvider:
    """`text` is what it answers, a list of tokens; asked with a prefill it goes on behind it (`continues`), or begins
    anew. The bytes of a stream are cut anywhere, by the seed."""

    def __init__(
        self,
        dialect: Dialect,
        model: str,
        text: list[str],
        behave: Behaviour = lambda number, asked: Fault(),
        continues: Callable[[str], list[str]] | None = None,
        seed: int = 0,
    ) -> None:
        self.dialect, self.model, self.asked = dialect, model, list[Asked]()
        self.text, self._behave, self._continues = text, behave, continues
        self._random = random.Random(seed)
        self._tasks = set[asyncio.Task[None]]()
        self._own_errors: list[Exception] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._own_errors:
            raise self._own_errors[0]  # a fault of this file, and not the one that was asked for

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the gateway hung up, or the provider ends
        except Exception as error:
            self._own_errors.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open for another request."""
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        asked = Asked(asyncio.get_running_loop().time(), first.split(" ")[1], body)
        self.asked.append(asked)
        fault = self._behave(len(self.asked), asked)
        if fault.is_reset:
            writer.transport.abort()
            return False
        if fault.is_silent:
            await asyncio.Event().wait()
        if fault.status != 200 and fault.error_after is None:
            writer.write(self._refusal(fault))
            return True
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        return await self._stream(fault, self._tokens_for(asked), writer)

    def _tokens_for(self, asked: Asked) -> list[str]:
        prefill = asked.prefill
        return self.text if prefill is None or self._continues is None else self._continues(prefill)

    async def _stream(self, fault: Fault, tokens: list[str], writer: asyncio.StreamWriter) -> bool:
        speech = SPEECH[self.dialect](self.model)
        await self._send(writer, speech.begin(fault))
        for number, token in enumerate(tokens):
            if number == fault.cut_after:
                writer.transport.abort()
                return False
            if number == fault.error_after:
                await self._send(writer, _data(speech.error(fault)))
                return False
            await asyncio.sleep(fault.first_token if number == 0 else TOKEN_GAP)
            if number == fault.stall_after:
                await asyncio.sleep(fault.stall)
            if number == fault.malformed_after:
                await self._send(writer, b'data: {"choices": [{"del\n\n')
            await self._send(writer, speech.token(token))
        await self._send(writer, speech.finish(fault))
        if not fault.has_end:
            await asyncio.Event().wait()
        await self._send(writer, speech.end())
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for part in self._cut(data):
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()

    def _cut(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        place = self._random.randint(1, len(data))
        yield data[:place]
        if data[place:]:
            yield data[place:]

    def _refusal(self, fault: Fault) -> bytes:
        body = json.dumps(SPEECH[self.dialect](self.model).error(fault)).encode()
        head = f"HTTP/1.1 {fault.status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        if fault.retry_after is not None:
            head += f"retry-after: {fault.retry_after:g}\r\n"
        return head.encode() + b"\r\n" + body


class _OpenAI:
    def __init__(self, model: str) -> None:
        self._head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}

    def _chunk(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _data(self._head | {"choices": [choice]})

    def begin(self, fault: Fault) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def token(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def finish(self, fault: Fault) -> bytes:
        usage = b""
        if fault.usage is not None:
            prompt, completion = fault.usage
            counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            usage = _data(self._head | {"choices": [], "usage": counts})
        return self._chunk({}, fault.finish) + usage

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def error(self, fault: Fault) -> Any:
        return {"error": {"message": fault.message, "type": fault.code, "param": None, "code": fault.code}}


class _Anthropic:
    def __init__(self, model: str) -> None:
        self._model = model

    def begin(self, fault: Fault) -> bytes:
        prompt = {"input_tokens": fault.usage[0], "output_tokens": 1} if fault.usage else {}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": self._model, "content": [],
                   "stop_reason": None, "stop_sequence": None, "usage": prompt}  # fmt: skip
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return _named({"type": "message_start", "message": message}) + _named(block) + _named({"type": "ping"})

    def token(self, text: str) -> bytes:
        return _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})

    def finish(self, fault: Fault) -> bytes:
        reason = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[fault.finish]
        used = {"output_tokens": fault.usage[1]} if fault.usage else {}
        last = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": used}
        return _named({"type": "content_block_stop", "index": 0}) + _named(last)

    def end(self) -> bytes:
        return _named({"type": "message_stop"})

    def error(self, fault: Fault) -> Any:
        return {"type": "error", "error": {"type": fault.code, "message": fault.message}}


class _Gemini:
    def __init__(self, model: str) -> None:
        self._head = {"modelVersion": model, "responseId": "r1"}

    def _chunk(self, parts: list[dict[str, str]], **more: str) -> dict[str, Any]:
        return self._head | {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0} | more]}

    def begin(self, fault: Fault) -> bytes:
        return b""

    def token(self, text: str) -> bytes:
        return _data(self._chunk([{"text": text}]))

    def finish(self, fault: Fault) -> bytes:
        reason = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}[fault.finish]
        chunk = self._chunk([{"text": ""}], finishReason=reason)
        if fault.usage is not None:
            prompt, completion = fault.usage
            chunk["usageMetadata"] = {
                "promptTokenCount": prompt, "candidatesTokenCount": completion, "totalTokenCount": prompt + completion,
            }  # fmt: skip
        return _data(chunk)

    def end(self) -> bytes:
        return b""

    def error(self, fault: Fault) -> Any:
        return {"error": {"code": fault.status, "message": fault.message, "status": fault.code}}


SPEECH: dict[str, type[_OpenAI] | type[_Anthropic] | type[_Gemini]] = {
    "openai": _OpenAI, "anthropic": _Anthropic, "gemini": _Gemini,
}  # fmt: skip


def _data(value: Any) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _named(value: Any) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)
