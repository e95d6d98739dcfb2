"""The two transactions of every call as procedures of PostgreSQL: one round trip each in place of seven.

They do, statement by statement, what `meters.take`, `meters.book` and `ledger` do on any store, and the same tests hold
both to it. Rows are locked in the order of their names.
"""

from collections.abc import Sequence
from typing import Any

from inhouse.gateway.store.database import Database, Row
from inhouse.gateway.store.meters import DEBT_SECONDS, FULL_SECONDS, ROUNDING, SLACK_SECONDS, Change, Taking

_LOCK = "PERFORM 1 FROM meters m WHERE m.name = ANY(p_names) ORDER BY m.name FOR UPDATE"
_AHEAD = f"""CASE WHEN m.full_at - p_now BETWEEN 0 AND {DEBT_SECONDS + SLACK_SECONDS} THEN m.full_at - p_now
            ELSE 0 END"""
_FLOWS_IN = f"r.amount::DOUBLE PRECISION * {FULL_SECONDS} / r.per_minute"

OPEN = f"""
CREATE OR REPLACE FUNCTION open_call(
    p_budgets TEXT[], p_limits BIGINT[], p_rates TEXT[], p_per_minute BIGINT[], p_amounts BIGINT[], p_reserve BIGINT,
    p_now DOUBLE PRECISION, p_call calls, p_attempt attempts, p_replica TEXT
) RETURNS SETOF meters LANGUAGE plpgsql AS $$
DECLARE
    p_names TEXT[] := p_budgets || p_rates;
    locked BIGINT;
BEGIN
    {_LOCK};
    GET DIAGNOSTICS locked = ROW_COUNT;
    IF locked < cardinality(p_names) THEN
        INSERT INTO meters SELECT n, 0, 0, 0 FROM unnest(p_names) n ORDER BY n ON CONFLICT DO NOTHING;
        {_LOCK};
    END IF;
    IF EXISTS (
        SELECT 1 FROM unnest(p_budgets, p_limits) b(name, amount) JOIN meters m ON m.name = b.name
        WHERE m.spent + m.reserved + p_reserve > b.amount
    ) OR EXISTS (
        SELECT 1 FROM unnest(p_rates, p_per_minute, p_amounts) r(name, per_minute, amount)
        JOIN meters m ON m.name = r.name
        WHERE r.amount > r.per_minute OR {_AHEAD} + {_FLOWS_IN} - {FULL_SECONDS} > {ROUNDING}
    ) THEN
        RETURN QUERY SELECT m.* FROM meters m WHERE m.name = ANY(p_names);
        RETURN;
    END IF;
    UPDATE meters m SET reserved = m.reserved + p_reserve WHERE m.name = ANY(p_budgets);
    UPDATE meters m SET full_at = p_now + {_AHEAD} + {_FLOWS_IN}
        FROM unnest(p_rates, p_per_minute, p_amounts) r(name, per_minute, amount) WHERE m.name = r.name;
    INSERT INTO calls SELECT p_call.*;
    INSERT INTO attempts SELECT p_attempt.*;
    INSERT INTO open_calls VALUES (p_call.id, p_replica);
END $$
"""

SETTLE = f"""
CREATE OR REPLACE FUNCTION settle_call(
    p_settlement settlements, p_costs costs[], p_names TEXT[], p_spent BIGINT[], p_released BIGINT[],
    p_later DOUBLE PRECISION[], p_latest DOUBLE PRECISION
) RETURNS BOOLEAN LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM open_calls WHERE call_id = p_settlement.call_id;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    INSERT INTO settlements SELECT p_settlement.*;
    INSERT INTO costs SELECT * FROM unnest(p_costs);
    {_LOCK};
    UPDATE meters m SET spent = m.spent + c.spent, reserved = m.reserved - c.released,
            full_at = LEAST(m.full_at + c.later, p_latest)
        FROM unnest(p_names, p_spent, p_released, p_later) c(name, spent, released, later) WHERE m.name = c.name;
    RETURN TRUE;
END $$
"""

ALL = (OPEN, SETTLE)


async def open_call(
    db: Database, wanted: Taking, call: Sequence[Any], attempt: Sequence[Any], replica: str
) -> dict[str, Row]:
    """The call was opened where nothing comes back; else its meters do, and nothing was kept. `call` and `attempt` are
    rows of their tables."""
    rows = await db.call(
        "SELECT * FROM open_call(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        list(wanted.budgets), [budget.amount for budget in wanted.budgets.values()], list(wanted.rates),
        [rate.per_minute for rate in wanted.rates.values()], list(wanted.amounts.values()), wanted.reserve, wanted.now,
        tuple(call), tuple(attempt), replica,
    )  # fmt: skip
    return {row["name"]: row for row in rows}


async def settle_call(
    db: Database, settlement: Sequence[Any], costs: Sequence[Sequence[Any]], changed: Sequence[Change], now: float
) -> bool:
    """Whether it was open; nothing was done where it was not. Rows of `settlements` and `costs`."""
    names, spent, released, later = zip(*changed, strict=True) if changed else ((), (), (), ())
    rows = await db.call(
        "SELECT settle_call(?, ?, ?, ?, ?, ?, ?) AS was_open",
        tuple(settlement), costs, names, spent, released, later, now + DEBT_SECONDS,
    )  # fmt: skip
    return rows[0]["was_open"]
