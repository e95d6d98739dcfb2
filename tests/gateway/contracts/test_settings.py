"""Contracts that contradict themselves or each other are refused in one sentence."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from inhouse.gateway.contracts.instants import read_instant, say_instant
from inhouse.gateway.contracts.settings import CommitmentSettings, TermsSettings, mistakes, overlap

NOW = datetime(2026, 11, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"start": "2026-02-01", "end": "2026-01-01"}, "ends on 2026-01-01, which is not after its start, 2026-02-01"),
        ({"start": "2026-02-01", "kill_date": "2026-01-01"}, "kill_date 2026-01-01 is not after its start"),
        ({"end": "2026-02-30"}, "needs a date, such as 2026-04-01"),
        ({"end": "2026-02-01T09:00:00"}, "does not say in which zone"),
        ({"may_serve": ["code"], "may_not_serve": ["code"]}, '"code" stands in may_serve and in may_not_serve'),
        ({"may_serve": ["docs/*"], "exclusive": [{"tasks": ["code"]}]}, 'but may_serve, docs/*, lacks it'),
        ({"may_not_serve": ["code/rust"], "exclusive": [{"tasks": ["code/*"]}]}, 'but may_not_serve has "code/rust"'),
        (
            {"exclusive": [{"tasks": ["code"]}, {"tasks": ["co*"], "first_refusal": True}]},
            '"code" is exclusive to it and only first refusal at the same time',
        ),
        (
            {"end": "2026-01-01", "exclusive": [{"tasks": ["code"], "start": "2026-03-01"}]},
            "an exclusivity begins on 2026-03-01, but the contract ends on 2026-01-01",
        ),
        (
            {"start": "2026-01-01", "commitment": {"amount": 5, "end": "2025-03-01"}},
            "the commitment ends on 2025-03-01, but the contract begins on 2026-01-01",
        ),
        ({"may_serve": ["*code"]}, "pattern"),
        ({"exclusive": [{"tasks": []}]}, "at least 1 item"),
        ({"commitment": {"amount": -1}}, "greater than 0"),
    ],
)  # fmt: skip
def test_a_contract_that_cannot_be_is_refused(terms: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TermsSettings(**terms)
    assert sentence in str(refused.value)


def test_dates_and_times_are_utc() -> None:
    assert say_instant(read_instant("2026-04-01").timestamp()) == "2026-04-01"
    assert say_instant(read_instant("2026-04-01T02:00:00+02:00").timestamp()) == "2026-04-01"
    assert say_instant(read_instant("2026-04-01T09:30:00Z").timestamp()) == "2026-04-01T09:30:00Z"


def test_a_commitment_is_exact() -> None:
    assert CommitmentSettings(amount=0.1).nano == 10**8
    assert CommitmentSettings(amount=1_234_567.89).nano == 1_234_567_890_000_000


@pytest.mark.parametrize(
    ("one", "other", "do"),
    [
        ("code", "code", True), ("code", "codes", False), ("code/*", "code/rust", True), ("code/*", "code", False),
        ("*", "code", True), ("code/*", "code/rust/*", True), ("code/*", "docs/*", False), ("a", "a/b*", False),
    ],
)  # fmt: skip
def test_patterns_overlap(one: str, other: str, do: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is do


def test_two_exclusives_for_one_task_are_a_mistake_where_their_times_meet() -> None:
    acme = TermsSettings(exclusive=[{"tasks": ["docs", "code/*"], "end": "2026-06-01"}])
    late = TermsSettings(exclusive=[{"tasks": ["code/rust"], "start": "2026-06-01"}])
    assert mistakes({"acme": acme, "bolt": late}, NOW) == []
    early = TermsSettings(exclusive=[{"tasks": ["speech"]}, {"tasks": ["code/rust"], "start": "2026-05-01"}])
    (mistake,) = mistakes({"acme": acme, "bolt": early}, NOW)
    assert mistake.provider == "bolt" and mistake.keys == ("terms", "exclusive", 1)
    assert mistake.sentence == ('"code/rust" is exclusive to bolt and to acme from 2026-05-01 until 2026-06-01')
    ended = TermsSettings(exclusive=[{"tasks": ["*"]}], end="2026-05-01")
    assert mistakes({"acme": ended, "bolt": late}, 0.0) == []


def test_a_contract_that_has_ended_is_a_mistake_unless_it_was_cut() -> None:
    terms = {"acme": TermsSettings(end="2026-01-01"), "bolt": TermsSettings(end="2030-01-01", kill_date="2026-02-01")}
    first, second = mistakes(terms, NOW)
    assert first.keys == ("terms", "end") and "acme ended on 2026-01-01" in first.sentence
    assert second.keys == ("terms", "kill_date") and "bolt ended on 2026-02-01" in second.sentence
    assert mistakes(terms, NOW, {"acme", "bolt"}) == []
