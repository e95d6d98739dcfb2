"""What the page of administrators shows, ready for its template: only words and figures, nothing that was asked."""

from collections.abc import Mapping
from typing import Any

from inhouse.gateway.contracts.calendar import calendar, calendar_lines
from inhouse.gateway.contracts.drills import drill_results
from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.outside.money import budgets_of, days_of, month_start, sums_of
from inhouse.gateway.outside.routing import routing_of
from inhouse.gateway.tables import audit_line, drill_words
from inhouse.gateway.types import Target

_HOUR = 3600.0
_TOKENS = 500  # of an answer, whose time is shown
_TRIES = """
    SELECT provider, model, COUNT(*) AS tries, SUM(CASE WHEN outcome = 'answered' THEN 1 ELSE 0 END) AS answered
    FROM spent WHERE at >= ? AND outcome NOT IN ('client gone', 'abandoned') GROUP BY provider, model
"""
_STATES = {"closed": "well", "half-open": "on trial", "open": "left alone"}


async def overview(gateway: Gateway) -> dict[str, Any]:
    """Everything, as it is now. Raises `StoreDown`."""
    now, db, currency = gateway.now(), gateway.db, gateway.config.currency
    tries = {
        (row["provider"], row["model"]): (row["tries"], row["answered"]) for row in await db.read(_TRIES, now - _HOUR)
    }
    providers = [_provider(gateway, name, tries, now) for name in gateway.config.providers()]
    month = month_start(now)
    spent = {by: await sums_of(db, by, month) for by in ("team", "provider", "task")}
    (total,) = await sums_of(db, None, month)
    return {
        "at": say_instant(round(now)), "currency": currency,
        "tiles": [
            (str(len(gateway.live)), "calls under way"),
            (f"{sum(each['is_open'] for each in providers)} of {len(providers)}", "providers open"),
            (total["cost"], f"{currency} this month"),
            (f"{total['calls']:,}", "calls this month"),
        ],
        "providers": providers,
        "tasks": routing_of(gateway, now),
        "spent": spent,
        "budgets": await budgets_of(db, gateway.config, now), "days": await days_of(db, now),
        "contracts": list(calendar_lines(calendar(gateway.terms, list(gateway.config.providers()), now)))
        if Terms(gateway.config.terms()).instants() else [],
        "rollouts": [
            {"task": task, "model": each.model, "share": f"{each.share:.0%}", "outcome": each.outcome, "why": each.why}
            for task, each in gateway.rollouts.standings.items()
        ],
        "drills": [drill_words(drill) for drill in (await drill_results(db))[:10]],
        "live": [_call(call, now) for call in sorted(gateway.live.values(), key=lambda call: call.started)[:100]],
        "audit": [audit_line(entry.body) for entry in reversed(await gateway.audit.entries(12))],
    }  # fmt: skip


def _provider(
    gateway: Gateway, name: str, tries: Mapping[tuple[str, str], tuple[int, int]], now: float
) -> dict[str, Any]:
    """`is_cut`: by somebody, who can take that back."""
    provider, ended = gateway.config.providers()[name], gateway.terms.why_ended(name, now)
    is_open = gateway.pool.is_open(name) and ended is None
    why = ended or ("" if is_open else "it is not up" if provider.is_inhouse else "it is not open")
    last = provider.terms.last
    return {
        "name": name, "dialect": provider.dialect, "region": provider.region, "is_open": is_open, "why": why,
        "is_cut": gateway.terms.is_cut(name, now), "streams": gateway.pool.num_streams(name),
        "until": "" if last == float("inf") else say_instant(last),
        "models": [_model(gateway, target, tries) for target in provider.targets()],
    }  # fmt: skip


def _model(gateway: Gateway, target: Target, tries: Mapping[tuple[str, str], tuple[int, int]]) -> dict[str, Any]:
    asked, answered = tries.get((target.provider, target.model), (0, 0))
    seconds, state = gateway.router.latency.expected(target, _TOKENS), gateway.breaker.state(target)
    return {
        "name": target.model, "state": _STATES[state], "is_well": state == "closed",
        "tries": f"{asked:,}", "answered": f"{answered / asked:.1%}" if asked else "",
        "seconds": "" if seconds is None else f"{seconds:.1f} s",
    }  # fmt: skip


def _call(call: Call, now: float) -> dict[str, Any]:
    target = call.attempts[-1].target if call.attempts else None
    return {
        "id": call.id, "team": call.caller.team, "key": call.caller.key_id, "face": call.asked.face,
        "task": call.decision.task or "unknown", "attempts": len(call.attempts),
        "target": f"{target.provider}/{target.model}" if target else "", "seconds": f"{now - call.started:.1f}",
        "first": "" if call.first_token is None else f"{call.first_token:.1f}",
    }  # fmt: skip
