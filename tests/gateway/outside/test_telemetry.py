"""OpenTelemetry's names, against its API; the SDK, an extra, only sends what is recorded there."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.gateways import config_of, opened, provider
from tests.providers.loopback import USAGE, chunk, loopback, reply, stream

from inhouse.gateway.outside.telemetry import Telemetry, telemetry

pytest.importorskip("opentelemetry.trace", reason="OpenTelemetry's API is not installed")
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Recorded:
    """A meter, its histograms, a tracer and its spans."""

    def __init__(self) -> None:
        self.said: list[tuple[str, float, dict[str, Any]]] = []
        self.spans: list[tuple[str, Any, dict[str, Any], int]] = []

    def create_histogram(self, name: str, unit: str, description: str, **_: Any) -> Any:
        said = self.said

        class Histogram:
            def record(self, value: float, attributes: dict[str, Any]) -> None:
                said.append((name, value, attributes))

        return Histogram()

    def start_span(self, name: str, context: Any, kind: Any, attributes: dict[str, Any], start_time: int) -> Any:
        from opentelemetry.trace import INVALID_SPAN

        self.spans.append((name, context, attributes, start_time))
        return INVALID_SPAN


def test_attempts_are_recorded_by_the_conventions(tmp_path: Path) -> None:
    recorded = Recorded()

    async def main() -> None:
        answers = (stream(chunk("Hi"), chunk(finish="stop"), USAGE), reply(400, {"error": {"message": "no"}}))
        async with loopback(*answers) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            made: Any = recorded
            here.gateway.observers.append(Telemetry(here.gateway.config, made, made).observe)
            body = {"model": "m", "messages": [{"role": "user", "content": "A secret"}]}
            for _ in answers:
                await here.post("/v1/chat/completions", body, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
            await here.gateway.drained()

    asyncio.run(main())
    from opentelemetry.trace import get_current_span

    tokens = [(value, about["gen_ai.token.type"]) for name, value, about in recorded.said if "token.usage" in name]
    assert tokens[:2] == [(7, "input"), (3, "output")]
    names = [name for name, _, _ in recorded.said]
    assert names.count("gen_ai.client.operation.duration") == 2
    assert names.count("gen_ai.server.time_to_first_token") == 1
    assert {about.get("error.type") for _, _, about in recorded.said} == {None, "request"}
    (name, context, about, start), _ = recorded.spans
    assert name == "chat m-up" and about["gen_ai.provider.name"] == "openai" and start > 10**18
    assert f"{get_current_span(context).get_span_context().trace_id:x}" == TRACE.lstrip("0")
    assert about["gen_ai.usage.output_tokens"] == 3 and "secret" not in str(recorded.said + recorded.spans)


def test_without_the_extra_it_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    with (
        pytest.raises(ValueError, match="inhouse\\[telemetry\\]"),
        telemetry(config_of(tmp_path, provider("http://a"))),
    ):
        pass
