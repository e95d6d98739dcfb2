"""A decision in words, as JSON, and as a response header."""

from collections.abc import Iterator, Mapping
from typing import Any

from inhouse.gateway.routing.choice import name_of
from inhouse.gateway.types import NANO, Candidate, Decision, Estimate, Target

_LONGEST_HEADER = 400


def lines(decision: Decision, currency: str) -> Iterator[str]:
    """For people: the task, everybody who might have answered with what is known of them, who answers, and why."""
    task = decision.task or "unknown"
    yield f"task: {task} (confidence {decision.confidence:.2f})"
    yield ""
    width = max((len(name_of(each.target)) for each in decision.candidates), default=0)
    yield f"{'candidate':<{width}}  {'quality (95 %, n)':<28}{f'cost, {currency}':>12}{'seconds':>9}{'utility':>9}"
    for each in sorted(decision.candidates, key=lambda each: _place(each, decision)):
        yield f"{name_of(each.target):<{width}}  {_row(each)}"
    yield ""
    yield f"{'declined to choose' if decision.has_declined else 'chosen'}: {decision.reason}"
    if rest := decision.order[1:]:
        yield f"where that fails: {', '.join(map(name_of, rest))}"


def as_json(decision: Decision) -> dict[str, Any]:
    """As the ledger keeps it; money in nano-units. `from_json` reads it back."""
    return {
        "task": decision.task,
        "confidence": round(decision.confidence, 4),
        "candidates": [
            {
                "target": list(each.target),
                "quality": None if each.quality is None else [*(round(x, 4) for x in each.quality[:3]), each.quality.n],
                "cost": each.cost,
                "latency": None if each.latency is None else round(each.latency, 3),
                "utility": None if each.utility is None else round(each.utility, 4),
                "excluded": each.excluded,
            }
            for each in decision.candidates
        ],
        "order": [list(target) for target in decision.order],
        "reason": decision.reason,
        "declined": decision.has_declined,
    }


def from_json(row: Mapping[str, Any]) -> Decision:
    """What `as_json` gave. Raises `ValueError` for anything else."""
    try:
        candidates = tuple(
            Candidate(
                Target(*each["target"]), None if each["quality"] is None else Estimate(*each["quality"]), each["cost"],
                each["latency"], each["utility"], each["excluded"],
            )
            for each in row["candidates"]
        )  # fmt: skip
        order = tuple(Target(*target) for target in row["order"])
        return Decision(row["task"], row["confidence"], candidates, order, row["reason"], row["declined"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a decision of this gateway ({error})") from None


def header(decision: Decision) -> str:
    """The value of `x-inhouse-decision`: one line of printable ASCII, whatever stands in names and terms."""
    text = f"{decision.task or 'unknown task'} {decision.confidence:.2f}; {decision.reason}"
    if not (text.isascii() and text.isprintable()):
        text = "".join(letter if " " <= letter <= "~" else "?" for letter in text)
    return text if len(text) <= _LONGEST_HEADER else text[: _LONGEST_HEADER - 3] + "..."


def _place(candidate: Candidate, decision: Decision) -> int:
    target = candidate.target
    return decision.order.index(target) if target in decision.order else len(decision.order)


def _row(candidate: Candidate) -> str:
    quality, latency, utility = candidate.quality, candidate.latency, candidate.utility
    known = "-" if quality is None else f"{quality.mean:.3f} ({quality.low:.3f}-{quality.high:.3f}, {quality.n:,})"
    time = "-" if latency is None else f"{latency:.2f}"
    worth = "-" if utility is None else f"{utility:.3f}"
    out = f"  out: {candidate.excluded}" if candidate.excluded else ""
    return f"{known:<28}{candidate.cost / NANO:>12.6f}{time:>9}{worth:>9}{out}"
