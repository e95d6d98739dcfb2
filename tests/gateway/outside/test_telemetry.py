"""OpenTelemetry's names, against its API; the SDK, an extra, only sends what is recorded there."""

import asyncio
import gzip
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


class Collector(ThreadingHTTPServer):
    """What a collector of OTLP over HTTP was sent: the path and the bytes."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Collects)


class _Collects(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        is_packed = self.headers.get("content-encoding") == "gzip"
        self.server.got.append((self.path, gzip.decompress(raw) if is_packed else raw))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Not into the tests' output."""


@pytest.mark.parametrize("named", [{}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=door,team=ops"}])
def test_spans_and_metrics_arrive_at_a_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, str]
) -> None:
    """With the extra's real SDK."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the extra telemetry is not installed")
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    async def main(observe: Any) -> None:
        answers = (stream(chunk("Hi"), chunk(finish="stop"), USAGE), reply(400, {"error": {"message": "no"}}))
        async with loopback(*answers) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            here.gateway.observers.append(observe)
            body = {"model": "m", "messages": [{"role": "user", "content": "A secret"}]}
            for _ in answers:
                await here.post("/v1/chat/completions", body, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
            await here.gateway.drained()

    with Collector() as collector:
        threading.Thread(target=collector.serve_forever).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        with telemetry(config_of(tmp_path, provider("http://a"))) as observe:
            asyncio.run(main(observe))
        collector.shutdown()
    assert b"A secret" not in b"".join(raw for _, raw in collector.got)
    traces = [ExportTraceServiceRequest.FromString(raw) for path, raw in collector.got if path == "/v1/traces"]
    (sent,) = [each for trace in traces for each in trace.resource_spans]
    service = {each.key: each.value.string_value for each in sent.resource.attributes}
    assert (service["service.name"], service.get("team")) == (("door", "ops") if named else ("inhouse-gateway", None))
    spans = [span for scope in sent.scope_spans for span in scope.spans]
    assert {(span.name, span.trace_id.hex(), span.parent_span_id.hex()) for span in spans} == {
        ("chat m-up", TRACE, "00f067aa0ba902b7")
    }
    assert [span.status.message for span in spans] == ["", "request"]
    metrics = [ExportMetricsServiceRequest.FromString(raw) for path, raw in collector.got if path == "/v1/metrics"]
    names = {
        metric.name
        for sent_ in metrics
        for resource in sent_.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert {name for name in names if name.startswith("gen_ai.")} == {
        "gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.server.time_to_first_token",
    }  # fmt: skip
