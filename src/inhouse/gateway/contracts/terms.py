"""Who may serve which task now, by the providers' contracts and by what was cut."""

from collections.abc import Mapping
from functools import cached_property
from math import inf, isfinite
from typing import NamedTuple

from inhouse.gateway.contracts.instants import say_instant
from inhouse.gateway.contracts.settings import CommitmentSettings, ExclusiveSettings, TermsSettings, matches
from inhouse.gateway.types import Target


class Cut(NamedTuple):
    """A provider that was ended: for good, or, in a drill, for a while. Times are seconds of the wall clock."""

    provider: str
    at: float  # from then on no call goes there
    until: float | None  # None: for good
    grace: float  # seconds from `at` that streams under way have
    by: str  # who ordered it
    reason: str
    ordered: float

    def stands(self, now: float) -> bool:
        """One that was ordered at once stands though the clock be set back behind it."""
        return self.at <= max(now, self.ordered) and (self.until is None or now < self.until)


class Progress(NamedTuple):
    """How far a commitment is. Money in nano-units."""

    committed: int
    spent: int
    due: int  # what would have been spent by now, were it spent evenly
    forecast: int  # what will have been spent at its end at the pace so far
    left: float  # seconds until its end; infinite where it has none

    @property
    def owed(self) -> int:
        """What is paid for without a use, were the provider left now."""
        return max(self.committed - self.spent, 0)


class Terms:
    """The contracts of all providers. `cuts` is a live mapping: what is put into it counts from the next question on.

    A provider without terms may serve everything, unless it is cut.
    """

    def __init__(self, terms: Mapping[str, TermsSettings], cuts: Mapping[str, Cut] | None = None) -> None:
        self.settings = dict(terms)
        self.cuts: Mapping[str, Cut] = {} if cuts is None else cuts

    def why_not(self, target: Target, task: str, now: float) -> str | None:
        """Why this target may not serve a task ("" where it is unknown), in words; None where it may.

        An unknown task is within no list: `may_serve` keeps a provider from it, `may_not_serve` does not.
        """
        if reason := self.why_ended(target.provider, now):
            return reason
        if terms := self.settings.get(target.provider):
            name = f"task {task}" if task else "a task that is not known"
            if terms.may_serve and not any(matches(pattern, task) for pattern in terms.may_serve):
                return f"{target.provider} may serve {', '.join(terms.may_serve)} only, not {name}"
            if any(matches(pattern, task) for pattern in terms.may_not_serve):
                return f"{target.provider} may not serve {name}"
        owner = self.must(task, now)
        if owner is not None and owner != target.provider:
            return why_exclusive(owner, task)
        return None

    def why_ended(self, provider: str, now: float) -> str | None:
        """Why nothing at all goes to a provider now, in words; None where it may be used."""
        if (cut := self.cuts.get(provider)) and self.is_cut(provider, now):
            until = f" until {say_instant(cut.until)}" if cut.until is not None else ""
            return f"{provider} was cut on {say_instant(cut.at)}{until}" + f": {cut.reason}" * bool(cut.reason)
        if not (terms := self.settings.get(provider)):
            return None
        if now < terms.since:
            return f"the contract with {provider} begins on {say_instant(terms.since)}"
        if now >= terms.last:
            return f"the contract with {provider} ended on {say_instant(terms.last)}"
        return None

    def is_cut(self, provider: str, now: float) -> bool:
        """Whether it was ended, for good or in a drill."""
        return (cut := self.cuts.get(provider)) is not None and cut.stands(now)

    def must(self, task: str, now: float) -> str | None:
        """The provider that alone may answer a task now. One that has ended, or was cut, has lost what it had."""
        return self._owner(task, now, first_refusal=False)

    def first(self, task: str, now: float) -> str | None:
        """The provider that must be asked first; others may answer where it does not."""
        return self._owner(task, now, first_refusal=True)

    def instants(self) -> list[float]:
        """When something changes by the contracts alone, in order; seconds of the wall clock."""
        spans = [
            span
            for terms in self.settings.values()
            for span in (terms, *terms.exclusive, *([terms.commitment] if terms.commitment else []))
        ]
        kills = [terms.last for terms in self.settings.values()]
        return sorted({at for span in spans for at in (span.since, span.until) if isfinite(at)} | {*kills} - {inf})

    def tasks(self) -> list[str]:
        """All that the contracts name, patterns included."""
        named = [
            task
            for terms in self.settings.values()
            for tasks in (terms.may_serve, terms.may_not_serve, *(part.tasks for part in terms.exclusive))
            for task in tasks
        ]
        return sorted({*named} - {"*"})

    def commitment(self, provider: str, spent: int, now: float) -> Progress | None:
        """How far its commitment is, where it has one, given the nano-units spent within the commitment's time."""
        terms = self.settings.get(provider)
        if terms is None or (promise := terms.commitment) is None:
            return None
        since, until = commitment_span(terms, promise)
        if not (isfinite(since) and isfinite(until)):  # no pace without a time
            return Progress(promise.nano, spent, promise.nano, spent, until - now)
        passed = min(max((now - since) / (until - since), 0.0), 1.0)
        forecast = round(spent / passed) if passed else 0
        return Progress(promise.nano, spent, round(promise.nano * passed), forecast, max(until - now, 0.0))

    def _owner(self, task: str, now: float, *, first_refusal: bool) -> str | None:
        for provider, parts in self._exclusive:
            for part in parts:
                if (
                    part.first_refusal == first_refusal
                    and part.since <= now < part.until
                    and any(matches(pattern, task) for pattern in part.tasks)
                    and self.why_ended(provider, now) is None
                ):
                    return provider
        return None

    @cached_property
    def _exclusive(self) -> list[tuple[str, tuple[ExclusiveSettings, ...]]]:
        return [(name, terms.exclusive) for name, terms in self.settings.items() if terms.exclusive]


def commitment_span(terms: TermsSettings, promise: CommitmentSettings) -> tuple[float, float]:
    """From when until when spending counts: the commitment's own time within the contract's."""
    return max(terms.since, promise.since), min(terms.last, promise.until)


def why_exclusive(owner: str, task: str) -> str:
    """The sentence for everybody else; a rehearsal knows by it what is free again once the owner is gone."""
    return f"{f'task {task}' if task else 'every task'} is exclusive to {owner}"
