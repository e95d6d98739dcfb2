"""What a configuration comes to, in lines: who may answer at what price, what routing weighs, what limits there are."""

from collections.abc import Iterator

from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.contracts.calendar import calendar, calendar_lines
from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.routing.evidence_files import read_evidence
from inhouse.gateway.settings import parse_amount
from inhouse.gateway.types import NANO


def lines(config: GatewayConfig, now: float) -> Iterator[str]:
    """Every figure that decides something, defaults included."""
    prices = config.prices(now)
    yield f"store: {config.store}"
    yield f"default: {config.default}"
    for target, model in config.models().items():
        price, provider = prices.at(target, now), config.providers()[target.provider]
        output = "" if price.rates.output is None else f", {price.per_million('output').normalize():f} out"
        parts = [
            f"{price.per_million().normalize():f} in{output} {config.currency} a million tokens ({price.source})",
            f"context {model.context:,}" if model.context else "context not known",
        ]
        parts += [f"in {provider.region}"] * bool(provider.region)
        parts += [f"for {', '.join(model.early_access)} only"] * bool(model.early_access)
        yield f"{target.model} at {target.provider}: {'; '.join(parts)}"
    for name, terms in config.terms().items():
        if terms.last != float("inf"):
            yield f"contract with {name}: until {say_instant(terms.last)}"
    if (contracts := Terms(config.terms())).instants():
        yield from calendar_lines(calendar(contracts, list(config.providers()), now))
    routing = config.routing
    yield (
        f"routing: quality - {routing.per_cost:g} x cost in {config.currency} - {routing.per_second:g} x seconds; "
        f"in-house answers within {routing.margin:g} of the best; {routing.fewest} observations at least"
    )
    yield from _evidence(config)
    failover = config.failover
    yield f"failover: stream_recovery = {failover.stream_recovery}, first token within {failover.first_token:g} s"
    for budget in config.budget:
        whose = [f"{what} {name}" for what in ("team", "key", "task") if (name := getattr(budget, what))]
        nano, period = parse_amount(budget.amount)
        yield f"budget of {' and '.join(whose) or 'all calls'}: {nano / NANO:,.2f} {config.currency} a {period}"


def _evidence(config: GatewayConfig) -> Iterator[str]:
    """What is measured, what of it is left out, and which of it is of nobody here."""
    evidence = read_evidence(config.evidence)
    measured = {model for task in evidence.tasks for model in evidence.models(task)}
    named = {name for target in config.targets() for name in (target.model, target.upstream)}
    yield f"evidence: {len(evidence.tasks)} tasks, {len(measured & named)} models of this gateway"
    yield from evidence.notes
    if strangers := sorted(measured - named):
        yield f"evidence of models that no provider has: {', '.join(strangers)}"
