"""Lines of JSON: whole, and without what must not be in them."""

import asyncio
import json
import logging
import sys
from pathlib import Path

import pytest
from tests.gateway.gateways import config_of, opened, provider
from tests.providers.loopback import USAGE, chunk, loopback, stream

from inhouse.gateway.outside.logs import JsonLines, calls


def line(message: str, *arguments: object, error: BaseException | None = None) -> dict[str, object]:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("a", logging.WARNING, __file__, 1, message, arguments, info)
    text = JsonLines().format(record)
    assert "\n" not in text
    said: dict[str, object] = json.loads(text)
    return said


def test_neither_keys_nor_what_an_exception_quotes() -> None:
    key = "ih-" + "a" * 43
    assert line("%s is no key\nhere", key)["message"] == "[key] is no key\nhere"
    assert line("sent Authorization: Bearer hunter2")["message"] == "sent Authorization: Bearer [key]"
    try:
        raise ValueError(f"the text of a caller, {key}")
    except ValueError as error:
        said = line("it failed", error=error)
    assert said["exception"] == "ValueError" and "caller" not in str(said) and "test_logs.py" in str(said["at"])
    assert sys.exc_info() == (None, None, None)


def test_a_call_is_a_line_with_what_it_used_and_cost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with (
            loopback(stream(chunk("A secret"), chunk(finish="stop"), USAGE)) as there,
            opened(config_of(tmp_path, provider(there.url))) as here,
        ):
            body = {"model": "m", "messages": [{"role": "user", "content": "Another secret"}]}
            await here.post("/v1/chat/completions", body, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
            await here.gateway.drained()

    with caplog.at_level(logging.INFO, logger=calls.name):
        asyncio.run(main())
    (record,) = [record for record in caplog.records if record.name == calls.name]
    text = JsonLines().format(record)
    said = json.loads(text)
    assert (said["key"], said["team"], said["face"], said["outcome"], said["status"]) == (
        "ours", "us", "chat", "answered", 200,
    )  # fmt: skip
    (attempt,) = said["attempts"]
    assert (attempt["provider"], attempt["prompt"], attempt["completion"]) == ("acme", 7, 3)
    assert said["cost"] == pytest.approx(0.000013) and said["trace"].startswith("00-aaaa")
    assert "secret" not in text.lower()
