"""Opens all that the gateway needs, in order, and closes it again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from time import time

from inhouse.gateway.config.config import GatewayConfig, Provider
from inhouse.gateway.contracts.cut import CutWatch
from inhouse.gateway.contracts.drills import Drills
from inhouse.gateway.contracts.rollout import Rollouts
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.house.house import House, houses
from inhouse.gateway.offers import capabilities, new_router, votes_of
from inhouse.gateway.rehearsing import rehearsed
from inhouse.gateway.routing.evidence_files import keep_fresh
from inhouse.gateway.rules import HouseRules
from inhouse.gateway.store.audit import AuditLog
from inhouse.gateway.store.content import delete_expired
from inhouse.gateway.store.keys import Keys
from inhouse.gateway.store.open import open_store
from inhouse.gateway.store.replicas import Replica
from inhouse.gateway.store.secret import read_secret
from inhouse.providers.address import key_from
from inhouse.providers.dialects import endpoint
from inhouse.providers.endpoint import Endpoint

CONNECTIONS = 512  # to one provider
Check = Callable[[set[str]], None]


@asynccontextmanager
async def opened(
    config: GatewayConfig, check: Check = lambda cut: None, now: Callable[[], float] = time
) -> AsyncIterator[Gateway]:
    """Everything open and looked after, until left; calls that have ended meanwhile are settled first.

    `check` is told which providers the store knows to be cut, before any is opened. Raises what it raises, and
    `ValueError` with a sentence for what does not fit.
    """
    async with AsyncExitStack() as stack:
        gateway = await _opened(config, check, now, stack)
        gateway.observers.append(partial(_learn, gateway))
        chores = (
            gateway.cuts.run(),
            gateway.rollouts.run(),
            _drills(gateway).run(),
            gateway.replica.keep(partial(delete_expired, gateway.db), gateway.audit.move_head),
            keep_fresh(config.evidence, partial(votes_of, gateway.db), partial(setattr, gateway.router, "evidence")),
        )
        for chore in chores:
            stack.push_async_callback(_stop, asyncio.ensure_future(chore))
        yield gateway
        await gateway.drained()


async def _opened(config: GatewayConfig, check: Check, now: Callable[[], float], stack: AsyncExitStack) -> Gateway:
    secret = read_secret(config.secret_file)
    db = await open_store(config.store, config.folder, secret, config.currency)
    stack.push_async_callback(db.close)
    audit = AuditLog(db, config.audit_head, secret)
    replica = Replica(db)
    await replica.join()
    stack.push_async_callback(replica.leave)

    pool = Pool({}, config.models())
    stack.push_async_callback(pool.close_all)
    providers = config.providers()
    own: dict[str, House] = {}
    reopen = partial(_reopen, providers, own)
    variables = {name: each.key_env for name, each in providers.items() if each.key_env}
    terms_of = {name: each.terms for name, each in providers.items()}
    cuts = CutWatch(db, audit, pool, terms_of, variables, reopen)
    terms, breaker, prices = Terms(terms_of, cuts.cuts), Breaker(config.failover), config.prices(now())
    await cuts.look()
    check({name for name in providers if terms.why_ended(name, now()) is not None})
    for name, each in providers.items():
        if not (each.is_inhouse or terms.is_cut(name, now())):  # one whose contract begins later is ready then
            pool.open(name, await reopen(name))
    may_open = lambda name: not terms.is_cut(name, now())  # noqa: E731
    own.update(await stack.enter_async_context(houses(config.provider, pool, may_open)))
    rollouts = Rollouts(db, audit, config.rollout)
    await rollouts.look()
    router = await new_router(config, db, HouseRules(terms, breaker, rollouts), prices)
    return Gateway(
        config, db, replica, audit, Keys(db, secret, audit), config.limits(), prices, terms, cuts, pool, breaker,
        rollouts, router, own, now,
    )  # fmt: skip


def _drills(gateway: Gateway) -> Drills:
    return Drills(
        gateway.db, gateway.audit, gateway.config.drill,
        partial(rehearsed, gateway.config, gateway.db, gateway.router, gateway.terms),
    )  # fmt: skip


async def _reopen(providers: dict[str, Provider], own: dict[str, House], name: str) -> Endpoint:
    """An open endpoint of a provider."""
    provider = providers[name]
    if provider.is_inhouse:
        return await own[name].endpoint()
    key = key_from(provider.key_env)
    models = {(each.upstream or each.name): capabilities(each) for each in provider.model}
    made = endpoint(provider.dialect, provider.address, key, provider.limits, CONNECTIONS, models)
    return await made.__aenter__()


def _learn(gateway: Gateway, call: Call) -> None:
    """Routing measures how long answers take, and keeps a conversation where it is."""
    for attempt in call.attempts:
        if attempt.outcome == "answered" and attempt.usage is not None:
            gateway.router.answered(
                call.asked.conversation, call.decision, attempt.target, attempt.seconds, attempt.usage.completion,
                gateway.now(),
            )  # fmt: skip


async def _stop(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
