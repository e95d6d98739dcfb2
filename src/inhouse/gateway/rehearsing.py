"""What the gateway would do, asked beside it: whom it would choose for a prompt, and what a cut would move."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from inhouse.api.wire.chat import ChatRequest
from inhouse.gateway.administration import Administration
from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.contracts.cut import stored_cuts
from inhouse.gateway.contracts.drills import Drills
from inhouse.gateway.contracts.past import past_calls, past_of_tasks
from inhouse.gateway.contracts.rehearsal import Rehearsal, Rules, rehearse
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.cutting import provider_of, spent_of
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.offers import new_router
from inhouse.gateway.routing.backtest.backtest import backtest
from inhouse.gateway.routing.backtest.outcomes import read_outcomes
from inhouse.gateway.routing.backtest.replay import as_logged, replayed
from inhouse.gateway.routing.router import Router
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.rules import HouseRules
from inhouse.gateway.settings import AUTO
from inhouse.gateway.store.database import Database
from inhouse.gateway.types import Caller, CallRefused, Decision

_CALLER = Caller("", "", is_admin=True)


async def decision_for(store: Administration, text: str, asked: str = AUTO) -> Decision:
    """Who would answer this prompt, and why; nobody is asked. Raises `ValueError` where nobody may."""
    router, _ = await _router(store)
    try:
        return _decide(router, text, asked, store.db.now())
    except CallRefused as refused:
        raise ValueError(refused.message) from None


async def rehearsal_of(store: Administration, provider: str, at: float | None = None) -> Rehearsal:
    """What a cut at a time (default: now) would do to calls like those of the last weeks."""
    provider_of(store, provider)
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
    return rehearse(provider, now if at is None else at, past, rules, await spent_of(config, db, provider))


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
