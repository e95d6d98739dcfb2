"""OpenTelemetry's names for what generative AI does (semantic conventions 1.37, "GenAI"; of the cache's tokens later
ones'): three metrics and a span for each attempt. Where it is sent is said by OpenTelemetry's own variables
(OTEL_EXPORTER_OTLP_ENDPOINT, …)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.gateway import Call
from inhouse.gateway.types import Attempt

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

_OPERATIONS = {"completions": "text_completion", "embeddings": "embeddings"}  # every other face is "chat"
_PROVIDERS = {"gemini": "gcp.gemini"}  # of the conventions, where a dialect's name is another
# the bounds that the conventions give
_SECONDS = tuple(0.01 * 2**n for n in range(14))
_TOKENS = tuple(4.0**n for n in range(14))
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Telemetry:
    """`observe` is told of every call that has ended. No text of a call is ever in it."""

    def __init__(self, config: GatewayConfig, meter: "Meter", tracer: "Tracer") -> None:
        self._dialects = {name: each.dialect.removeprefix("any-llm:") for name, each in config.providers().items()}
        self._tracer = tracer
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens used.", explicit_bucket_boundaries_advisory=_TOKENS
        )
        self._seconds = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "An attempt.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._first = meter.create_histogram(
            "gen_ai.server.time_to_first_token", "s", "Until the answer.", explicit_bucket_boundaries_advisory=_FIRST
        )

    def observe(self, call: Call) -> None:
        for attempt in call.attempts:
            about = self._about(call, attempt)
            self._seconds.record(attempt.seconds, about)
            if attempt.first_token is not None:
                self._first.record(attempt.first_token, about)
            if attempt.usage is not None:
                for kind, count in (("input", attempt.usage.prompt), ("output", attempt.usage.completion)):
                    self._tokens.record(count, about | {"gen_ai.token.type": kind})
            self._span(call, attempt, about)

    def _about(self, call: Call, attempt: Attempt) -> dict[str, Any]:
        dialect = self._dialects[attempt.target.provider]
        about = {
            "gen_ai.operation.name": _OPERATIONS.get(call.asked.face, "chat"),
            "gen_ai.provider.name": _PROVIDERS.get(dialect, dialect),
            "gen_ai.request.model": attempt.target.upstream,
            "inhouse.provider": attempt.target.provider,
        }
        return about if attempt.outcome == "answered" else about | {"error.type": attempt.outcome}

    def _span(self, call: Call, attempt: Attempt, about: dict[str, Any]) -> None:
        """Within the client's own trace, where it sent one."""
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        trace = TraceContextTextMapPropagator().extract({"traceparent": call.asked.trace})
        more = {"inhouse.call": call.id, "inhouse.task": call.decision.task, "inhouse.attempt": attempt.number}
        if attempt.usage is not None:
            more |= {
                "gen_ai.usage.input_tokens": attempt.usage.prompt,
                "gen_ai.usage.output_tokens": attempt.usage.completion,
                "gen_ai.usage.cache_read.input_tokens": attempt.usage.cached,
                "gen_ai.usage.cache_creation.input_tokens": attempt.usage.written,
            }
        span = self._tracer.start_span(
            f"{about['gen_ai.operation.name']} {attempt.target.upstream}", trace, SpanKind.CLIENT, about | more,
            start_time=round(attempt.started * 1e9),
        )  # fmt: skip
        if "error.type" in about:
            span.set_status(Status(StatusCode.ERROR, attempt.outcome))
        span.end(round((attempt.started + attempt.seconds) * 1e9))


@contextmanager
def telemetry(config: GatewayConfig) -> Iterator[Callable[[Call], None]]:
    """What is to observe calls; what it has not sent is sent at the end. Raises `ValueError` without the extra."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ValueError("[server] telemetry needs the telemetry extra: pip install 'inhouse[telemetry]'") from error
    resource = Resource.create()  # as the variables say
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "inhouse-gateway"}))
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource)
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Telemetry(config, meters.get_meter("inhouse.gateway"), tracers.get_tracer("inhouse.gateway")).observe
    finally:
        meters.shutdown()
        tracers.shutdown()
