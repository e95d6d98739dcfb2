"""What the page shows of routing: for each task who would answer now, and all that is known of every model at it."""

from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.routing.evidence import KINDS, Finding
from inhouse.gateway.settings import AUTO
from inhouse.gateway.types import Caller, CallRefused

_ANYBODY = Caller("", "")


def routing_of(gateway: Gateway, now: float) -> list[dict[str, Any]]:
    """One entry a task that has evidence, one for each of its models in that."""
    return [_task(gateway, task, now) for task in gateway.router.evidence.tasks]


def _task(gateway: Gateway, task: str, now: float) -> dict[str, Any]:
    chosen, reason = _choice(gateway, task, now)
    of_model: dict[str, dict[str, Finding]] = {}
    for finding in gateway.router.evidence.findings(task):
        of_model.setdefault(finding.model, {})[finding.kind] = finding
    best = sorted(of_model, key=lambda model: -max(each.estimate.mean for each in of_model[model].values()))
    models = [
        {"name": model, "is_chosen": model in chosen, "kinds": [_finding(of_model[model].get(kind)) for kind in KINDS]}
        for model in best
    ]
    return {"name": task, "chosen": chosen[0] if chosen else "nobody", "reason": reason, "models": models}


def _choice(gateway: Gateway, task: str, now: float) -> tuple[tuple[str, ...], str]:
    """The model's names (as requests and as its provider name it), and why."""
    asked = f"{AUTO}:{task}"
    request = ChatRequest.model_validate({"model": asked, "messages": [{"role": "user", "content": ""}]})
    try:
        decision = gateway.router.decide(request, asked, _ANYBODY, "", None, now)
    except CallRefused as error:
        return (), error.message
    first = decision.order[0]
    return (first.model, first.upstream), decision.reason


def _finding(finding: Finding | None) -> dict[str, Any] | None:
    """`left`, `width`, `middle`: of its interval and its mean, in hundredths."""
    if finding is None:
        return None
    mean, low, high, n = finding.estimate
    return {
        "mean": f"{mean:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}", "n": f"{n:,}",
        "left": 100 * low, "width": max(100 * (high - low), 0.5), "middle": 100 * mean,
        "source": " ".join(filter(None, (finding.source, finding.date))),
    }  # fmt: skip
