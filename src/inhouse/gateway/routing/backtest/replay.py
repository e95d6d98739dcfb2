"""Logged decisions, made again under other weights. Quality is the table's: nobody knows the answers not given."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from inhouse.gateway.routing.choice import Option, choose
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.types import NANO, Candidate, Decision, Target


class Replay(NamedTuple):
    """Of so many decisions: expected cost of all, expected quality of those where it is known, and who answers."""

    decisions: int
    cost: int  # nano
    quality: float | None
    known: int  # decisions whose chosen target was measured
    declined: int
    shares: dict[str, float]  # by model

    def line(self, name: str, currency: str) -> str:
        quality = "n/a" if self.quality is None else f"{self.quality:.4f} (of {self.known:,})"
        who = ", ".join(f"{model} {share:.1%}" for model, share in self.shares.items())
        return f"{name}: quality {quality}, {self.cost / NANO:.6f} {currency}, declined {self.declined:,}; {who}"


def as_logged(decisions: Iterable[Decision]) -> Replay:
    """What was decided."""
    return _replay((decision, decision.order[0], decision.has_declined) for decision in decisions)


def replayed(
    decisions: Iterable[Decision], settings: RoutingSettings, default: str, inhouse: Collection[str]
) -> Replay:
    """What would be decided; `inhouse` names the providers that are. Who was excluded then is excluded now."""
    return _replay(_again(decisions, settings, default, inhouse))


def _again(
    decisions: Iterable[Decision], settings: RoutingSettings, default: str, inhouse: Collection[str]
) -> Iterator[tuple[Decision, Target, bool]]:
    for decision in decisions:
        options = [
            Option(each.target, each.target.provider in inhouse, each.quality, each.cost, each.latency)
            for each in decision.candidates
            if each.target in decision.order
        ]
        choice = choose(options, settings, default)
        yield decision, choice.order[0], choice.has_declined


def _replay(chosen: Iterable[tuple[Decision, Target, bool]]) -> Replay:
    who: Counter[str] = Counter()
    cost = declined = 0
    qualities = []
    for decision, target, has_declined in chosen:
        candidate = _candidate(decision, target)
        who[target.model] += 1
        cost, declined = cost + candidate.cost, declined + has_declined
        if candidate.quality is not None:
            qualities.append(candidate.quality.mean)
    quality = sum(qualities) / len(qualities) if qualities else None
    shares = {model: count / who.total() for model, count in who.most_common()}
    return Replay(who.total(), cost, quality, len(qualities), declined, shares)


def _candidate(decision: Decision, target: Target) -> Candidate:
    return next(each for each in decision.candidates if each.target == target)
