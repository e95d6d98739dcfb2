"""The terms of a provider as gateway.toml has them, and what is contradictory in them."""

from collections.abc import Iterator, Mapping, Set
from decimal import Decimal
from itertools import combinations
from math import inf
from typing import Annotated, NamedTuple, Self

from pydantic import Field, PositiveFloat, model_validator

from inhouse.common.settings import Settings
from inhouse.gateway.contracts.instants import Instant, say_instant
from inhouse.gateway.types import NANO

TaskPattern = Annotated[str, Field(pattern=r"^[^\s*]+\*?$|^\*$")]  # * at the end stands for any rest


class Span(Settings):
    """From its start on, until its end; both may be open."""

    start: Instant | None = Field(default=None, description="from this instant on; a date is its first instant in UTC")
    end: Instant | None = Field(default=None, description="until this instant, which is no longer part of it")

    @model_validator(mode="after")
    def _runs_forwards(self) -> Self:
        if self.start and self.end and self.end <= self.start:
            raise ValueError(
                f"ends on {say_instant(self.until)}, which is not after its start, {say_instant(self.since)}"
            )
        return self

    @property
    def since(self) -> float:
        """Seconds of the wall clock."""
        return self.start.timestamp() if self.start else -inf

    @property
    def until(self) -> float:
        """Seconds of the wall clock."""
        return self.end.timestamp() if self.end else inf


class ExclusiveSettings(Span):
    """Tasks that are the provider's for a time, within its contract's."""

    tasks: tuple[TaskPattern, ...] = Field(min_length=1, description="which tasks; * at the end stands for any rest")
    first_refusal: bool = Field(
        default=False, description="it is asked first, and others may answer where it does not; false: it alone answers"
    )


class CommitmentSettings(Span):
    """What was promised to be spent at a provider within a time."""

    amount: PositiveFloat = Field(description="money, in the gateway's currency")

    @property
    def nano(self) -> int:
        """The amount in nano-units."""
        return int(Decimal(repr(self.amount)) * NANO)


class TermsSettings(Span):
    """The contract with a provider. None of it given: it may be used for everything, without an end."""

    may_serve: tuple[TaskPattern, ...] = Field(default=(), description="the tasks that it may serve; none: all")
    may_not_serve: tuple[TaskPattern, ...] = Field(default=(), description="tasks that it may not serve")
    exclusive: tuple[ExclusiveSettings, ...] = Field(default=(), description="tasks that must go to it")
    commitment: CommitmentSettings | None = Field(default=None, description="what was promised to be spent there")
    kill_date: Instant | None = Field(default=None, description="when it is cut, streams under way and key included")
    ends_on: str = Field(default="", max_length=200, description="the event that, once declared, cuts it at once")
    grace: float = Field(default=30.0, ge=0, le=3600, description="seconds that streams under way have after a cut")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.kill_date and self.kill_date.timestamp() <= self.since:
            raise ValueError(
                f"its kill_date {say_instant(self.kill_date.timestamp())} is not after its start, "
                f"{say_instant(self.since)}"
            )
        for pattern in self.may_not_serve:
            if pattern in self.may_serve:
                raise ValueError(f'"{pattern}" stands in may_serve and in may_not_serve')
        for part in self.exclusive:
            for task in part.tasks:
                self._may_be_exclusive(task)
            self._lies_within(part, "an exclusivity")
        for one, other in combinations(self.exclusive, 2):
            if (tasks := _shared(one, other)) and one.first_refusal != other.first_refusal:
                raise ValueError(f'"{tasks[0]}" is exclusive to it and only first refusal at the same time')
        if self.commitment:
            self._lies_within(self.commitment, "the commitment")
        return self

    @property
    def last(self) -> float:
        """When it ends: by its end or by its kill date, whichever comes first; seconds of the wall clock."""
        return min(self.until, self.kill_date.timestamp() if self.kill_date else inf)

    def _may_be_exclusive(self, task: str) -> None:
        if self.may_serve and not any(matches(pattern, task) for pattern in self.may_serve):
            raise ValueError(f'"{task}" is exclusive to it, but may_serve, {", ".join(self.may_serve)}, lacks it')
        if barred := next((pattern for pattern in self.may_not_serve if overlap(pattern, task)), None):
            raise ValueError(f'"{task}" is exclusive to it, but may_not_serve has "{barred}"')

    def _lies_within(self, part: Span, name: str) -> None:
        if part.since >= self.last:
            raise ValueError(
                f"{name} begins on {say_instant(part.since)}, but the contract ends on {say_instant(self.last)}"
            )
        if part.until <= self.since:
            raise ValueError(
                f"{name} ends on {say_instant(part.until)}, but the contract begins on {say_instant(self.since)}"
            )


class Mistake(NamedTuple):
    """What is wrong with the terms of a provider; `keys` lead to it from the provider's table."""

    provider: str
    keys: tuple[str | int, ...]
    sentence: str


def matches(pattern: str, task: str) -> bool:
    """Whether a task, or all tasks of another pattern, are among a pattern's."""
    return task.startswith(pattern[:-1]) if pattern.endswith("*") else task == pattern


def overlap(one: str, other: str) -> bool:
    """Whether two patterns share a task."""
    return matches(one, other.removesuffix("*")) or matches(other, one.removesuffix("*"))


def mistakes(terms: Mapping[str, TermsSettings], now: float, cut: Set[str] = frozenset()) -> list[Mistake]:
    """What contradicts another provider's terms, and what has ended already.

    A provider that the store knows to be `cut` is no mistake: it ended while the gateway ran, and nobody is misled.
    """
    found = [
        Mistake(
            name,
            ("terms", "end" if each.until <= (each.last) else "kill_date"),
            f"the contract with {name} ended on {say_instant(each.last)}: take the provider out, or give its new end",
        )
        for name, each in terms.items()
        if each.last <= now and name not in cut
    ]
    for (name, each), (other_name, other) in combinations(terms.items(), 2):
        found += [
            Mistake(other_name, ("terms", "exclusive", number), sentence)
            for number, sentence in _rivals(name, each, other_name, other)
        ]
    return found


def _rivals(name: str, terms: TermsSettings, other_name: str, other: TermsSettings) -> Iterator[tuple[int, str]]:
    """The exclusivities of `other` that `name` has been given too."""
    for part in terms.exclusive:
        for number, rival in enumerate(other.exclusive):
            since = max(terms.since, other.since, part.since, rival.since)
            until = min(terms.last, other.last, part.until, rival.until)
            if (tasks := _shared(part, rival)) and since < until:
                begins = f" from {say_instant(since)}" if since > -inf else ""
                when = begins + (f" until {say_instant(until)}" if until < inf else "")
                yield number, f'"{tasks[0]}" is exclusive to {other_name} and to {name}{when}'


def _shared(one: ExclusiveSettings, other: ExclusiveSettings) -> list[str]:
    """Tasks, the narrower pattern each, that two exclusivities have in common at one time."""
    if max(one.since, other.since) >= min(one.until, other.until):
        return []
    return [max(a, b, key=len) for a in one.tasks for b in other.tasks if overlap(a, b)]
