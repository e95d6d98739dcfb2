"""The page of metrics. Its labels are names of the configuration and of this code, never what a client made up."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from inhouse.api.metrics import Histogram, Responses, head, sample
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.store.database import StoreDown
from inhouse.gateway.types import NANO, Attempt

_STATES = {"closed": 0, "half-open": 1, "open": 2}
_RESERVED = "SELECT COUNT(*) AS calls, SUM(c.reserve) AS reserved FROM open_calls o JOIN calls c ON c.id = o.call_id"


class GatewayMetrics(Responses):
    """What this process has done since it started; `observe` is told of every call that has ended."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self._calls: Counter[tuple[str, str, str]] = Counter()  # by face, task, outcome
        self._attempts: Counter[tuple[str, str, str]] = Counter()  # by provider, model, outcome
        self._tokens: Counter[tuple[str, str, str]] = Counter()  # by provider, model, kind
        self._cost: Counter[tuple[str, str, str]] = Counter()  # nano, by provider, model, task
        self._seconds: defaultdict[str, Histogram] = defaultdict(Histogram)  # by face
        self._first: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)  # by provider and model

    def observe(self, call: Call) -> None:
        task = call.decision.task
        self._calls[call.asked.face, task, call.outcome] += 1
        self._seconds[call.asked.face].observe(call.seconds)
        for attempt in call.attempts:
            self._observe(attempt)
        for attempt, _, cost, *_ in call.booked:
            self._cost[attempt.target.provider, attempt.target.model, task] += cost

    def _observe(self, attempt: Attempt) -> None:
        provider, model, _ = attempt.target
        self._attempts[provider, model, attempt.outcome] += 1
        if attempt.first_token is not None:
            self._first[provider, model].observe(attempt.first_token)
        if attempt.usage is not None:
            for kind, count in attempt.usage._asdict().items():
                self._tokens[provider, model, kind] += count

    async def page(self) -> str:
        """In Prometheus' text format. Where the store does not answer, what is in it is left out."""
        lines = [*self.lines(), *self._counted(), *self._now()]
        try:
            (row,) = await self._gateway.db.read(_RESERVED)
        except StoreDown:
            return "\n".join(lines) + "\n"
        lines.append(head("gateway_open_calls", "gauge", "Calls of all replicas that are not settled."))
        lines.append(sample("gateway_open_calls", row["calls"]))
        lines.append(head("gateway_reserved", "gauge", "Money held back for them."))
        reserved = int(row["reserved"] or 0) / NANO
        lines.append(sample("gateway_reserved", f"{reserved:.9f}", currency=self._gateway.config.currency))
        return "\n".join(lines) + "\n"

    def _counted(self) -> Iterator[str]:
        yield head("gateway_calls_total", "counter", "Calls that have ended, by how they did.")
        for (face, task, outcome), count in sorted(self._calls.items()):
            yield sample("gateway_calls_total", count, face=face, task=task, outcome=outcome)
        yield head("gateway_attempts_total", "counter", "Tries at one target, by how they ended.")
        for (provider, model, outcome), count in sorted(self._attempts.items()):
            yield sample("gateway_attempts_total", count, provider=provider, model=model, outcome=outcome)
        yield head("gateway_tokens_total", "counter", "Tokens; cached are among prompt, thinking among completion.")
        for (provider, model, kind), count in sorted(self._tokens.items()):
            yield sample("gateway_tokens_total", count, provider=provider, model=model, kind=kind)
        yield head("gateway_cost_total", "counter", "Money, as it is booked.")
        for (provider, model, task), nano in sorted(self._cost.items()):
            money, currency = f"{nano / NANO:.9f}", self._gateway.config.currency
            yield sample("gateway_cost_total", money, provider=provider, model=model, task=task, currency=currency)
        yield head("gateway_call_seconds", "histogram", "From a call's admission to its end.")
        for face, histogram in sorted(self._seconds.items()):
            yield from histogram.lines("gateway_call_seconds", face=face)
        yield head("gateway_first_token_seconds", "histogram", "From an attempt's start to the first of its answer.")
        for (provider, model), histogram in sorted(self._first.items()):
            yield from histogram.lines("gateway_first_token_seconds", provider=provider, model=model)

    def _now(self) -> Iterator[str]:
        gateway = self._gateway
        yield head("gateway_calls_under_way", "gauge", "Calls of this process that have not ended.")
        yield sample("gateway_calls_under_way", len(gateway.live))
        yield head("gateway_breaker", "gauge", "0: asked as ever; 1: tried by one call; 2: left alone.")
        for target in gateway.config.targets():
            state = _STATES[gateway.breaker.state(target)]
            yield sample("gateway_breaker", state, provider=target.provider, model=target.model)
        yield head("gateway_provider_open", "gauge", "0: cut, not begun, or down where it is one's own.")
        for provider in gateway.config.providers():
            yield sample("gateway_provider_open", int(gateway.pool.is_open(provider)), provider=provider)
        yield head("gateway_streams_under_way", "gauge", "Answers under way at a provider.")
        for provider in gateway.config.providers():
            yield sample("gateway_streams_under_way", gateway.pool.num_streams(provider), provider=provider)
