"""What routing must know of a target, and of what rules over it. The parts that know these hand them in."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from inhouse.gateway.routing.request import AnyRequest
from inhouse.gateway.spend.price import Price
from inhouse.gateway.types import Target


class Offer(NamedTuple):
    """A target with its limits and its price."""

    target: Target
    is_inhouse: bool
    region: str  # "": not said
    context: int | None  # tokens of a prompt and its answer together; None: not known
    max_output: int | None
    missing: Callable[[AnyRequest], list[str]]  # the parts of a request that it cannot take
    price: Callable[[float], Price]  # at a time (wall clock, seconds)
    groups: tuple[str, ...] = ()  # of early access, one of which a caller must belong to; (): everybody


class Rollout(NamedTuple):
    """A model that a share of a task's conversations goes to, and whether this conversation is among them."""

    model: str
    is_in: bool


class Rules(Protocol):
    """What stands above any measurement: contracts, roll-outs, broken targets."""

    def why_not(self, target: Target, task: str, now: float) -> str | None:
        """The term that forbids it, in words; None where it may serve the task ("": unknown)."""

    def first(self, task: str, now: float) -> str | None:
        """The provider that a contract gives this task to first; others may answer where it does not."""

    def rollout(self, task: str, conversation: str) -> Rollout | None:
        """The roll-out that the task is in."""

    def is_down(self, target: Target) -> bool:
        """Whether its circuit breaker lets nothing through."""


class NoRules:
    """Everything is allowed and well."""

    def why_not(self, target: Target, task: str, now: float) -> str | None:
        return None

    def first(self, task: str, now: float) -> str | None:
        return None

    def rollout(self, task: str, conversation: str) -> Rollout | None:
        return None

    def is_down(self, target: Target) -> bool:
        return False
