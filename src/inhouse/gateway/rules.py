"""What stands above any measurement, as routing asks for it: contracts, roll-outs, broken targets."""

from inhouse.gateway.contracts.rollout import Rollouts
from inhouse.gateway.contracts.terms import Terms
from inhouse.gateway.failover.breaker import Breaker
from inhouse.gateway.routing.offer import Rollout
from inhouse.gateway.types import Target


class HouseRules:
    """`routing.offer.Rules`."""

    def __init__(self, terms: Terms, breaker: Breaker, rollouts: Rollouts | None = None) -> None:
        self._terms, self._breaker, self._rollouts = terms, breaker, rollouts

    def why_not(self, target: Target, task: str, now: float) -> str | None:
        return self._terms.why_not(target, task, now)

    def first(self, task: str, now: float) -> str | None:
        return self._terms.first(task, now)

    def rollout(self, task: str, conversation: str) -> Rollout | None:
        return None if self._rollouts is None else self._rollouts.of(task, conversation)

    def is_down(self, target: Target) -> bool:
        return self._breaker.is_open(target)
