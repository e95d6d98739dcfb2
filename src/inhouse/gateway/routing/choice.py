"""Picks among those who may answer: the utility of each, and when one's own model goes before a better one."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.types import NANO, Estimate, Target


class Option(NamedTuple):
    """One who may and can answer."""

    target: Target
    is_inhouse: bool
    quality: Estimate | None  # None: too little is known
    cost: int  # nano, expected
    latency: float | None  # seconds, expected; None: never measured


class Choice(NamedTuple):
    """`order`: the first is asked first. `reason`: one sentence. `has_declined`: too little is known to choose."""

    order: tuple[Target, ...]
    reason: str
    has_declined: bool


def utilities(options: Sequence[Option], settings: RoutingSettings) -> list[float | None]:
    """quality - per_cost x cost - per_second x latency. Who was never timed counts as slow as the others' median."""
    known = [option.latency for option in options if option.latency is not None]
    usual = median(known) if known else 0.0
    return [
        None
        if option.quality is None
        else option.quality.mean
        - settings.per_cost * option.cost / NANO
        - settings.per_second * (usual if option.latency is None else option.latency)
        for option in options
    ]


def choose(options: Sequence[Option], settings: RoutingSettings, default: str) -> Choice:
    """Among one or more. An in-house model answers where the low end of its quality is at least the best estimate of
    all others less the margin; else the highest utility decides. Where fewer than two models are known at the task
    there is nothing to compare: the default answers."""
    worth = dict(zip(options, utilities(options, settings), strict=True))
    ranked = sorted(options, key=lambda option: _rank(option, worth[option]))
    if len(ranked) == 1:
        return Choice((ranked[0].target,), f"{name_of(ranked[0].target)} is the only one who may and can answer", False)
    known = [option for option in ranked if option.quality is not None]
    if len({option.target.model for option in known}) < 2:
        return _declined(ranked, known, default)
    first, why = _own(known, settings) or (known[0], f"has the highest utility, {worth[known[0]]:.3f}")
    rest = [option.target for option in ranked if option is not first]
    return Choice((first.target, *rest), f"{name_of(first.target)} {why}", False)


def name_of(target: Target) -> str:
    return f"{target.model} at {target.provider}"


def _rank(option: Option, worth: float | None) -> tuple[object, ...]:
    """Known ones by their utility, then the others, the cheapest first; names decide between equals."""
    return (worth is None, 0.0 if worth is None else -worth, option.cost, not option.is_inhouse, option.target)


def _own(known: Sequence[Option], settings: RoutingSettings) -> tuple[Option, str] | None:
    """The in-house model of the highest utility among those that the rule lets win, and why."""
    others = [option for option in known if not option.is_inhouse]
    if not others:
        return None
    best = max(others, key=_quality)
    limit = _quality(best) - settings.margin
    for option in known:
        if option.is_inhouse and option.quality is not None and option.quality.low >= limit:
            return option, (
                f"is in-house, and the low end of its quality, {option.quality.low:.3f}, is at least that of "
                f"{name_of(best.target)}, {_quality(best):.3f}, less {settings.margin:g}"
            )
    return None


def _quality(option: Option) -> float:
    assert option.quality is not None
    return option.quality.mean


def _declined(ranked: Sequence[Option], known: Sequence[Option], default: str) -> Choice:
    found = f"only {known[0].target.model} is" if known else "nobody is"
    why = f"{found} measured well enough at this task to choose"
    of_default = [option.target for option in ranked if option.target.model == default]
    rest = [option.target for option in ranked if option.target.model != default]
    order = (*of_default, *rest)
    who = f"the default {name_of(order[0])}" if of_default else f"{name_of(order[0])}, as the default {default} cannot,"
    return Choice(order, f"{why}: {who} answers", True)
