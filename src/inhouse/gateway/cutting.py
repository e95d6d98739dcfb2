"""Ends a provider, or takes that back, for an administrator: what was done and what is left to do, in lines."""

from inhouse.gateway.administration import Administration
from inhouse.gateway.config.config import GatewayConfig, Provider
from inhouse.gateway.contracts.cut import declare, effects, lift_cut, order_cut
from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.terms import Cut, Terms, commitment_span
from inhouse.gateway.spend.report import LATEST, spending
from inhouse.gateway.store.database import Database


async def cut_lines(
    store: Administration, provider: str, at: float | None, reason: str, grace: float | None = None
) -> list[str]:
    """Cut it, and what whoever does so must know, a line each."""
    settings = provider_of(store, provider)
    now = store.db.now()
    when = now if at is None else at
    grace = settings.terms.grace if grace is None else grace
    await order_cut(store.audit, Cut(provider, when, None, grace, store.by, reason, now))
    spent = await spent_of(store.config, store.db, provider)
    said = effects(provider, settings.key_env, Terms(store.config.terms()), spent, now)
    return [f"{provider} is cut from {say_instant(when)} on", *said]


async def declare_lines(store: Administration, event: str) -> list[str]:
    """Declare it: who is cut by it."""
    ended = await declare(store.audit, store.config.terms(), event, store.by, store.db.now())
    return [f"{provider} is cut: its contract ends on {event}" for provider in ended]


async def lift_lines(store: Administration, provider: str) -> list[str]:
    """Take a cut back."""
    settings = provider_of(store, provider)
    await lift_cut(store.audit, provider, store.by)
    variable = f"; a gateway that forgot its key needs {settings.key_env} again, at a start" if settings.key_env else ""
    return [f"{provider} may answer again{variable}"]


def provider_of(store: Administration, name: str) -> Provider:
    """Raises `ValueError` with the names that there are."""
    if name not in store.config.providers():
        raise ValueError(f"there is no provider {name}; there are {', '.join(store.config.providers())}")
    return store.config.providers()[name]


async def spent_of(config: GatewayConfig, db: Database, provider: str) -> int:
    """Nano, within the time of its commitment; 0 where it has none."""
    terms = config.providers()[provider].terms
    if terms.commitment is None:
        return 0
    since, until = commitment_span(terms, terms.commitment)
    sums = await spending(db, ("provider",), max(since, 0.0), min(until, LATEST))
    return sum(each.cost for each in sums if each.of == (provider,))
