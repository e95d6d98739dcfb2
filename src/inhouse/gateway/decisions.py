"""A decision as the ledger keeps it and as a header says it."""

import json

from inhouse.gateway.types import Decision

_MOST = 200  # characters of a header


def as_json(decision: Decision) -> str:
    candidates = [
        {
            "provider": each.target.provider, "model": each.target.model,
            "quality": each.quality and each.quality._asdict(), "cost": each.cost, "latency": each.latency,
            "utility": each.utility, "excluded": each.excluded,
        }
        for each in decision.candidates
    ]  # fmt: skip
    order = [f"{target.provider}/{target.model}" for target in decision.order]
    said = decision._asdict() | {"candidates": candidates, "order": order}
    return json.dumps(said)


def as_header(decision: Decision) -> str:
    """ASCII, one line, short."""
    task = f"task={decision.task or 'unknown'}"
    reason = " ".join(decision.reason.split())
    return f"{task}; {reason}".encode("ascii", "replace").decode()[:_MOST]
