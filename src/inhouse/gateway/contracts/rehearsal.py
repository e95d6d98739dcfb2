"""What a cut would move where, in money and in quality, and what nobody else could do, from calls of the past."""

from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

from inhouse.gateway.contracts.terms import Cut, Progress, Terms
from inhouse.gateway.routing.choice import Option, choose
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.settings import AUTO
from inhouse.gateway.types import Candidate, Decision, Target

_DAY = 86400.0


class Past(NamedTuple):
    """A call as it was decided and answered."""

    at: float  # wall clock, seconds
    asked: str  # the model, as the request named it
    decision: Decision
    answered: Target
    cost: int  # nano


class Change(NamedTuple):
    """Of quality, after less before, with its 95 % interval."""

    mean: float
    low: float
    high: float


class Move(NamedTuple):
    """Calls of one task that go from one model to another, or to nobody."""

    task: str
    source: Target
    to: Target | None
    calls: int
    before: int  # nano, what they cost
    after: int  # nano, what they would have cost; 0 where nobody answers
    quality: Change | None  # None: one of the two was not measured at this task
    why_nobody: str = ""


class Rehearsal(NamedTuple):
    """What a cut at a time would do to calls like those of the past."""

    provider: str
    at: float
    calls: int  # that were looked at, the provider's or not
    days: float  # that they span
    moves: tuple[Move, ...]  # the largest first
    commitment: Progress | None

    @property
    def moved(self) -> int:
        return sum(move.calls for move in self.moves if move.to)

    @property
    def stranded(self) -> int:
        """Calls that nobody else could answer."""
        return sum(move.calls for move in self.moves if not move.to)

    @property
    def cost_change(self) -> int:
        """Nano: of the calls that move, after less before."""
        return sum(move.after - move.before for move in self.moves if move.to)

    @property
    def measured(self) -> int:
        """Calls that move between two models that were both measured at their task."""
        return sum(move.calls for move in self.moves if move.quality)

    @property
    def quality(self) -> Change | None:
        """The mean over the measured calls. Tasks err independently; calls of one task err together."""
        known = [(move.calls / self.measured, move.quality) for move in self.moves if move.quality]
        if not known:
            return None
        mean = sum(share * change.mean for share, change in known)
        half = sum((share * (change.high - change.low) / 2) ** 2 for share, change in known) ** 0.5
        return Change(mean, mean - half, mean + half)


class Rules(NamedTuple):
    """What decides where a call goes once the provider is gone: as the router does it."""

    terms: Terms
    routing: RoutingSettings
    default: str
    inhouse: Set[str]  # providers


def rehearse(provider: str, at: float, past: Iterable[Past], rules: Rules, spent: int = 0) -> Rehearsal:
    """Who would have answered each call of the past, had the provider been cut and the contracts been those of `at`.

    A candidate counts where it could have answered then, or only a contract stood against it that no longer does. Costs
    are what was booked, scaled by the costs that the decision expected of the two. `spent`: nano, within the time of
    the provider's commitment.
    """
    without = Terms(rules.terms.settings, {**rules.terms.cuts, provider: Cut(provider, at, None, 0.0, "", "", at)})
    groups: dict[tuple[str, Target, Target | None, str], list[tuple[Past, Candidate | None]]] = defaultdict(list)
    calls, first, last = 0, at, 0.0
    for each in past:
        calls, first, last = calls + 1, min(first, each.at), max(last, each.at)
        if each.answered.provider == provider:
            to = _replacement(each, at, without, rules)
            why = "" if to else _why_nobody(each, at, without)
            groups[each.decision.task, each.answered, to and to.target, why].append((each, to))
    moves = [_move(key, group) for key, group in groups.items()]
    moves.sort(key=lambda move: (move.to is not None, -move.calls, move.task, move.source, move.to or move.source))
    days = max(last - first, 0.0) / _DAY
    return Rehearsal(provider, at, calls, days, tuple(moves), rules.terms.commitment(provider, spent, at))


def _replacement(past: Past, at: float, without: Terms, rules: Rules) -> Candidate | None:
    decision = past.decision
    able = {
        candidate.target: candidate
        for candidate in decision.candidates
        if _could(candidate, past, rules.terms) and without.why_not(candidate.target, decision.task, at) is None
    }
    if not able:
        return None
    if (owner := without.must(decision.task, at)) or (owner := without.first(decision.task, at)):
        first = [target for target in able if target.provider == owner]
    else:
        first = []
    ranked = [*first, *_ranked(past, list(able.values()), rules)]
    return able[ranked[0]]


def _ranked(past: Past, able: Sequence[Candidate], rules: Rules) -> list[Target]:
    """As the router would: a named model and its stand-ins keep their order, the rest is chosen."""
    if past.asked.partition(":")[0] != AUTO:
        targets = {candidate.target for candidate in able}
        kept = [target for target in past.decision.order if target in targets]
        return [*kept, *sorted(targets.difference(kept))]
    options = [
        Option(each.target, each.target.provider in rules.inhouse, each.quality, each.cost, each.latency)
        for each in able
    ]
    return list(choose(options, rules.routing, rules.default).order)


def _could(candidate: Candidate, past: Past, terms: Terms) -> bool:
    """Whether nothing but a contract stood against it."""
    return (
        candidate.excluded is None
        or candidate.target in past.decision.order
        or candidate.excluded == terms.why_not(candidate.target, past.decision.task, past.at)
    )


def _why_nobody(past: Past, at: float, without: Terms) -> str:
    """Why each of the others is out, in one line."""
    others = [each for each in past.decision.candidates if each.target.provider != past.answered.provider]
    if not others and past.asked.partition(":")[0] != AUTO:
        return f"nobody else has {past.asked}, and routing.fallbacks names no model that stands in for it"
    if not others:
        return "the task has no other candidate"
    reasons = [
        f"{each.target.model}: {without.why_not(each.target, past.decision.task, at) or each.excluded}"
        for each in others
    ]
    return "; ".join(reasons)


def _move(key: tuple[str, Target, Target | None, str], group: Sequence[tuple[Past, Candidate | None]]) -> Move:
    task, source, to, why = key
    before, after, changes = 0, 0, []
    for past, candidate in group:
        before += past.cost
        if candidate is None:
            continue
        was = next((each for each in past.decision.candidates if each.target == source), None)
        after += round(past.cost * candidate.cost / was.cost) if was and was.cost and past.cost else candidate.cost
        if was and was.quality and candidate.quality:
            a, b = was.quality, candidate.quality
            half = ((a.high - a.low) ** 2 + (b.high - b.low) ** 2) ** 0.5 / 2
            changes.append(Change(b.mean - a.mean, b.mean - a.mean - half, b.mean - a.mean + half))
    quality = None
    if changes and len(changes) == len(group):
        quality = Change(*(sum(values) / len(changes) for values in zip(*changes, strict=True)))
    return Move(task, source, to, len(group), before, after, quality, why)
