"""A rehearsal sends each call of the past where the router would, and says what it costs and what nobody can do."""

import asyncio
import json
from pathlib import Path

import pytest

from inhouse.gateway.contracts.past import past_calls, past_of_tasks
from inhouse.gateway.contracts.rehearsal import Past, Rules, rehearse
from inhouse.gateway.contracts.rehearsal_text import rehearsal_text
from inhouse.gateway.contracts.settings import TermsSettings
from inhouse.gateway.contracts.terms import Terms, why_exclusive
from inhouse.gateway.routing.explain import as_json
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.store.database import Transaction
from inhouse.gateway.store.migrations import migrate
from inhouse.gateway.store.sqlite import SqliteDatabase
from inhouse.gateway.types import NANO, CallRefused, Candidate, Decision, Estimate, Target

ACME, BOLT, HOME = (Target(name, f"{name}-1", "") for name in ("acme", "bolt", "home"))
DAY = 86400.0
NOW = 30 * DAY


def candidate(target: Target, quality: float | None, cost: int, excluded: str | None = None) -> Candidate:
    estimate = None if quality is None else Estimate(quality, quality - 0.1, quality + 0.1, 100)
    return Candidate(target, estimate, cost, 1.0, None, excluded)


def past(
    *candidates: Candidate, task: str = "code", asked: str = "auto", cost: int = 1000, at: float = NOW - DAY
) -> Past:
    order = tuple(each.target for each in candidates if each.excluded is None)
    return Past(at, asked, Decision(task, 1.0, candidates, order, "", False), order[0], cost)


def rules(**terms: TermsSettings) -> Rules:
    return Rules(Terms(terms), RoutingSettings(per_second=0), "home-1", frozenset({"home"}))


def test_a_call_goes_to_the_next_best_at_its_cost() -> None:
    call = past(candidate(ACME, 0.9, 2_000), candidate(BOLT, 0.8, 1_000), candidate(HOME, 0.4, 10), cost=3_000)
    found = rehearse("acme", NOW, [call, call], rules())
    (move,) = found.moves
    assert (move.source, move.to, move.calls) == (ACME, BOLT, 2)
    assert (move.before, move.after) == (6_000, 3_000) and found.cost_change == -3_000
    assert move.quality is not None and move.quality.mean == pytest.approx(-0.1)
    assert (move.quality.low, move.quality.high) == pytest.approx((-0.1 - 0.02**0.5, -0.1 + 0.02**0.5))
    assert (found.moved, found.stranded, found.measured) == (2, 0, 2)


def test_an_in_house_model_wins_ties_as_it_does_in_routing() -> None:
    call = past(candidate(ACME, 0.9, 2_000), candidate(BOLT, 0.6, 1_000), candidate(HOME, 0.72, 1_500))
    assert rehearse("acme", NOW, [call], rules()).moves[0].to == HOME


def test_other_providers_calls_stay() -> None:
    call = past(candidate(BOLT, 0.9, 1), candidate(ACME, 0.8, 1))
    found = rehearse("acme", NOW, [call], rules())
    assert found.moves == () and found.calls == 1 and found.quality is None


def test_what_was_exclusive_is_free_and_what_is_elsewhere_is_not() -> None:
    exclusive = rules(acme=TermsSettings(exclusive=[{"tasks": ["code"]}]))
    call = past(
        candidate(ACME, 0.9, 2_000), candidate(BOLT, 0.8, 1_000, "it cannot take tools"),
        candidate(HOME, 0.4, 10, why_exclusive("acme", "code")),
    )  # fmt: skip
    assert rehearse("acme", NOW, [call], exclusive).moves[0].to == HOME


def test_contracts_count_as_they_are_at_the_time_of_the_cut() -> None:
    terms = rules(bolt=TermsSettings(end="1970-01-31"))  # one day before NOW
    call = past(candidate(ACME, 0.9, 1), candidate(BOLT, 0.8, 1), at=10 * DAY)
    assert rehearse("acme", 29 * DAY, [call], terms).moves[0].to == BOLT
    (move,) = rehearse("acme", NOW, [call], terms).moves
    assert move.to is None and move.why_nobody == "bolt-1: the contract with bolt ended on 1970-01-31"
    first = rules(home=TermsSettings(exclusive=[{"tasks": ["*"], "first_refusal": True}]))
    call = past(candidate(ACME, 0.9, 1), candidate(BOLT, 0.8, 1), candidate(HOME, 0.1, 1))
    assert rehearse("acme", NOW, [call], first).moves[0].to == HOME


def test_a_model_that_is_asked_for_by_name_has_its_stand_ins_only() -> None:
    named = past(candidate(ACME, 0.9, 1), candidate(HOME, None, 1), candidate(BOLT, 0.9, 1), asked="acme-1")
    assert rehearse("acme", NOW, [named], rules()).moves[0].to == HOME
    (move,) = rehearse("acme", NOW, [past(candidate(ACME, 0.9, 1), asked="acme-1")], rules()).moves
    assert move.to is None and "nobody else has acme-1" in move.why_nobody


def test_quality_over_tasks_is_a_mean_with_independent_errors() -> None:
    code = past(candidate(ACME, 0.9, 1), candidate(BOLT, 0.8, 1))
    docs = past(candidate(ACME, 0.5, 1), candidate(BOLT, 0.4, 1), task="docs")
    blind = past(candidate(ACME, 0.5, 1), candidate(BOLT, None, 1), task="talk")
    found = rehearse("acme", NOW, [code, docs, blind], rules())
    assert found.moved == 3 and found.measured == 2 and found.quality is not None
    assert found.quality.mean == pytest.approx(-0.1) and found.quality.high == pytest.approx(-0.1 + 0.1)


def test_its_text_says_all_of_it() -> None:
    calls = [
        past(candidate(ACME, 0.9, 2_000), candidate(BOLT, 0.8, 1_000), cost=NANO, at=NOW - 2 * DAY),
        past(candidate(ACME, 0.9, 2_000), task="docs"),
    ]
    committed = rules(acme=TermsSettings(commitment={"amount": 100}))
    text = rehearsal_text(rehearse("acme", NOW, calls, committed, spent=25 * NANO), "USD")
    assert text.splitlines() == [
        "acme cut on 1970-01-31, by 2 calls of 1.0 days:",
        "  answered by acme: 2; another would answer 1, nobody 1",
        "  cost of what moves: -0.5000 USD, -15.0000 USD in 30 days",
        "  quality of what moves: -0.100 (-0.241 to +0.041), over 1 of 1 calls whose models were measured",
        "  still owed of the commitment: 75.00 USD",
        "  docs, 1 calls: acme-1 -> nobody (the task has no other candidate)",
        "  code, 1 calls: acme-1 -> bolt-1 at bolt; 1.0000 -> 0.5000 USD; quality -0.100 (-0.241 to +0.041)",
    ]


def test_one_call_of_each_task_stands_in_for_a_ledger() -> None:
    def decide(asked: str) -> Decision:
        if asked == "auto:secret":
            raise CallRefused(403, "No.", "contract")
        return past(candidate(ACME, 0.9, 70), candidate(BOLT, 0.8, 40), task=asked[5:]).decision

    found = past_of_tasks(["code", "secret"], decide, NOW)
    assert [(each.asked, each.answered, each.cost) for each in found] == [("auto:code", ACME, 70)]


def test_calls_come_from_the_ledger(tmp_path: Path) -> None:
    decision = past(candidate(ACME, 0.5, 5), candidate(BOLT, 0.5, 5), task="code").decision

    async def work(tx: Transaction) -> None:
        for name, at in (("old", 0.0), ("new", NOW - DAY)):
            await tx.execute(
                "INSERT INTO calls VALUES (?, ?, 'k', 't', 'code', 'auto', 'chat', 0, ?, 0, 0, '[]', '')",
                name, at, json.dumps(as_json(decision)),
            )  # fmt: skip
            await tx.execute("INSERT INTO attempts VALUES (?, 1, ?, ?, ?, ?, 0)", name, *ACME, at)
            await tx.execute(
                "INSERT INTO settlements VALUES (?, 1, ?, 'settled', 'answered', 200, 1.0, NULL, 7, 7, 7)", name, at
            )
            await tx.execute(
                "INSERT INTO costs VALUES (?, 1, 1, 'answered', 1.0, 1, 0, 1, 0, 0, '', 7, 7, 7, 0, 0)", name
            )

    async def whole() -> list[Past]:
        db = SqliteDatabase(tmp_path / "gateway.sqlite", lambda: NOW)
        await migrate(db)
        await db.run(work)
        try:
            return await past_calls(db, NOW)
        finally:
            await db.close()

    (call,) = asyncio.run(whole())
    assert call.answered == ACME and call.cost == 7 and call.decision.order == (ACME, BOLT)
    assert rehearse("acme", NOW, [call], rules()).moves[0].to == BOLT
