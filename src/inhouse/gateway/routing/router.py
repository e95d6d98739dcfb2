"""Decides who answers a request, and why."""

from collections.abc import Sequence

from inhouse.gateway.routing.classifier import TaskClassifier
from inhouse.gateway.routing.evidence import Evidence
from inhouse.gateway.routing.offer import NoRules, Offer, Rules
from inhouse.gateway.routing.request import AnyRequest
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.types import Caller, Decision, Target


class Router:
    """`decide` reads only, so that it can explain a choice without making one; `answered` tells it what came of it."""

    def __init__(
        self,
        offers: Sequence[Offer],
        evidence: Evidence,
        classifier: TaskClassifier,
        settings: RoutingSettings,
        default: str,
        rules: Rules | None = None,
    ) -> None:
        self.offers, self.evidence, self.classifier = tuple(offers), evidence, classifier
        self.settings, self.default, self.rules = settings, default, rules or NoRules()

    def decide(
        self,
        request: AnyRequest,
        asked: str,
        caller: Caller,
        conversation: str,
        budget_left: int | None,
        now: float,
    ) -> Decision:
        """Who is asked, in which order. `asked` is what the request names: a model, "auto" or "auto:TASK".

        Raises `CallRefused` where nobody may or can answer: 400, 402, 403, 404 or 503.
        """
        raise NotImplementedError

    def answered(
        self, conversation: str, decision: Decision, target: Target, seconds: float, tokens: int, now: float
    ) -> None:
        """`target` has given an answer of so many tokens in so many seconds: latency, and where the conversation is."""
        raise NotImplementedError
