"""Offers, callers and evidence that the tests of routing share."""

from collections.abc import Mapping

from inhouse.api.wire.chat import ChatRequest
from inhouse.gateway.routing.classifier import Guess
from inhouse.gateway.routing.evidence import Evidence, Finding, share_of
from inhouse.gateway.routing.offer import Offer
from inhouse.gateway.routing.settings import WeightSettings
from inhouse.gateway.spend.price import Price, rates_of
from inhouse.gateway.spend.settings import RateSettings
from inhouse.gateway.types import Caller, Target

CALLER = Caller("key-1", "docs")
CODE = "product/code"


def target(model: str, provider: str = "") -> Target:
    return Target(provider or f"of-{model}", model, model)


def offer(model: str, provider: str = "", *, price: float = 1.0, **given: object) -> Offer:
    """`price`: of a million tokens, of whatever kind."""
    cost = Price("USD", rates_of(RateSettings(input=price, output=price)), (), 0, "test")
    plain = Offer(target(model, provider), False, "", None, None, lambda request: [], lambda now: cost)
    return plain._replace(**given)  # type: ignore[arg-type]


def evidence(scores: Mapping[str, tuple[float, int]], task: str = CODE) -> Evidence:
    """Of evaluations: how many of how many were right, by model."""
    findings = [
        Finding(task, model, "evaluations", share_of(share * n, n), "scores.jsonl")
        for model, (share, n) in scores.items()
    ]
    return Evidence(findings, WeightSettings())


def chat(text: str, model: str = "auto", **given: object) -> ChatRequest:
    return ChatRequest.model_validate({"model": model, "messages": [{"role": "user", "content": text}], **given})


class Says:
    """A classifier that always says the same."""

    tasks = (CODE, "product/maths")

    def __init__(self, task: str = CODE, confidence: float = 0.9) -> None:
        self._guess = Guess(task, confidence)

    def guess(self, text: str) -> Guess:
        return self._guess
