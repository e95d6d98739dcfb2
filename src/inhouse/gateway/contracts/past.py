"""Calls to rehearse with: those of the ledger's last weeks, or one of each task where there are none yet."""

import json
from collections.abc import Callable, Iterable

from inhouse.gateway.contracts.rehearsal import Past
from inhouse.gateway.routing.explain import from_json
from inhouse.gateway.settings import AUTO
from inhouse.gateway.store.database import Database, Row
from inhouse.gateway.types import CallRefused, Decision, Target

DAYS = 28
_ROWS = """
    SELECT c.at, c.asked, c.decision, s.provider, s.model, s.upstream, s.cost
    FROM spent s JOIN calls c ON c.id = s.call_id
    WHERE c.at >= ? AND s.outcome = 'answered' ORDER BY c.at, c.id, s.number
"""


async def past_calls(db: Database, now: float, days: float = DAYS) -> list[Past]:
    """All that were answered in the last days."""
    return [_past(row) for row in await db.read(_ROWS, now - days * 86400.0)]


def past_of_tasks(tasks: Iterable[str], decide: Callable[[str], Decision], now: float) -> list[Past]:
    """One call of each task, answered by whom `decide` (given "auto:TASK") puts first, at the cost that it expects."""
    found = []
    for task in tasks:
        asked = f"{AUTO}:{task}"
        try:
            decision = decide(asked)
        except CallRefused:
            continue  # nobody may answer it as it is: no cut can take it away
        first = decision.order[0]
        cost = next(each.cost for each in decision.candidates if each.target == first)
        found.append(Past(now, asked, decision, first, cost))
    return found


def _past(row: Row) -> Past:
    answered = Target(row["provider"], row["model"], row["upstream"])
    return Past(row["at"], row["asked"], from_json(json.loads(row["decision"])), answered, row["cost"])
