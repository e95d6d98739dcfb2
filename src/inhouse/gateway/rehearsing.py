"""What the gateway would do, asked beside it: whom it would choose for a prompt, and what a cut would move."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from inhouse.api.wire.chat import ChatRequest
from inhouse.gateway.administration import Administration
from inhouse.gateway.config.config import GatewayConfig, Provider
from inhouse.gateway.contracts.cut import declare, effects, lift_cut, order_cut, stored_cuts
from inhouse.gateway.contracts.drills import Drills
from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.past import past_calls, past_of_tasks
from inhouse.gateway.contracts.rehearsal import Rehearsal, Rules, rehearse
from inhouse.gateway.contracts.terms import Cut, Terms, commitment_span
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.opening import new_router
from inhouse.gateway.routing.backtest.backtest import backtest
from inhouse.gateway.routing.backtest.outcomes import read_outcomes
from inhouse.gateway.routing.backtest.replay import as_logged, replayed
from inhouse.gateway.routing.router import Router
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.rules import HouseRules
from inhouse.gateway.settings import AUTO
from inhouse.gateway.spend.report import spending
from inhouse.gateway.store.database import Database
from inhouse.gateway.types import Caller, Decision

_CALLER = Caller("", "", is_admin=True)
_LATEST = 2.0**40


async def decision_for(store: Administration, text: str, asked: str = AUTO) -> Decision:
    """Who would answer this prompt, and why; nobody is asked. Raises `ValueError` where nobody may."""
    router, _ = await _router(store)
    return _decide(router, text, asked, store.db.now())


async def rehearsal_of(store: Administration, provider: str, at: float | None = None) -> Rehearsal:
    """What a cut at a time (default: now) would do to calls like those of the last weeks."""
    _provider(store, provider)
    router, terms = await _router(store)
    return await rehearsed(store.config, store.db, router, terms, provider, at)


async def rehearsed(
    config: GatewayConfig, db: Database, router: Router, terms: Terms, provider: str, at: float | None = None
) -> Rehearsal:
    """The same, in a gateway that runs: of its ledger, or of one call of each task where that is empty."""
    now = db.now()
    past = await past_calls(db, now) or past_of_tasks(
        router.tasks, lambda asked: router.decide(_request("", asked), asked, _CALLER, "", None, now), now
    )
    rules = Rules(terms, config.routing, config.default, _inhouse(config))
    return rehearse(provider, now if at is None else at, past, rules, await _spent(config, db, provider))


async def cut_lines(store: Administration, provider: str, at: float | None, reason: str) -> list[str]:
    """Cut it, and what whoever does so must know, a line each."""
    settings = _provider(store, provider)
    now = store.db.now()
    when = now if at is None else at
    await order_cut(store.audit, Cut(provider, when, None, settings.terms.grace, store.by, reason, now))
    spent = await _spent(store.config, store.db, provider)
    said = effects(provider, settings.key_env, Terms(store.config.terms()), spent, now)
    return [f"{provider} is cut from {say_instant(when)} on", *said]


async def declare_lines(store: Administration, event: str) -> list[str]:
    """Declare it: who is cut by it."""
    ended = await declare(store.audit, store.config.terms(), event, store.by, store.db.now())
    return [f"{provider} is cut: its contract ends on {event}" for provider in ended]


async def lift_lines(store: Administration, provider: str) -> list[str]:
    """Take a cut back."""
    settings = _provider(store, provider)
    await lift_cut(store.audit, provider, store.by)
    variable = f"; a gateway that forgot its key needs {settings.key_env} again, at a start" if settings.key_env else ""
    return [f"{provider} may answer again{variable}"]


def drills_of(store: Administration) -> Drills:
    """The drills of the configuration, and what came of those so far."""
    return Drills(store.db, store.audit, store.config.drill, partial(rehearsal_of, store))


async def backtest_lines(store: Administration, files: Sequence[Path], weights: RoutingSettings) -> list[str]:
    """What other weights would have chosen: of outcomes in files, else of what the ledger has."""
    config = store.config
    if files:
        inhouse = [target.model for target in config.targets() if target.provider in _inhouse(config)]
        return [*backtest(read_outcomes(files), weights, inhouse, config.default).lines(config.currency)]
    decisions = [past.decision for past in await past_calls(store.db, store.db.now())]
    if not decisions:
        raise ValueError("the ledger has no calls yet: name files of outcomes (docs/routing.md)")
    return [
        as_logged(decisions).line("as it was", config.currency),
        replayed(decisions, weights, config.default, _inhouse(config)).line("with these weights", config.currency),
    ]


def _provider(store: Administration, name: str) -> Provider:
    if name not in store.config.providers():
        raise ValueError(f"there is no provider {name}; there are {', '.join(store.config.providers())}")
    return store.config.providers()[name]


async def _spent(config: GatewayConfig, db: Database, provider: str) -> int:
    """Nano, within the time of its commitment; 0 where it has none."""
    terms = config.providers()[provider].terms
    if terms.commitment is None:
        return 0
    since, until = commitment_span(terms, terms.commitment)
    sums = await spending(db, ("provider",), max(since, 0.0), min(until, _LATEST))
    return sum(each.cost for each in sums if each.of == (provider,))


async def _router(store: Administration) -> tuple[Router, Terms]:
    config = store.config
    terms = Terms(config.terms(), await stored_cuts(store.db))
    rules = HouseRules(terms, Breaker(config.failover))
    return await new_router(config, store.db, rules, config.prices(store.db.now())), terms


def _decide(router: Router, text: str, asked: str, now: float) -> Decision:
    return router.decide(_request(text, asked), asked, _CALLER, "", None, now)


def _request(text: str, asked: str) -> ChatRequest:
    return ChatRequest.model_validate({"model": asked, "messages": [{"role": "user", "content": text}]})


def _inhouse(config: GatewayConfig) -> set[str]:
    return {provider.name for provider in config.provider if provider.is_inhouse}
