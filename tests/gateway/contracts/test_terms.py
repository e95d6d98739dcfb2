"""Who may serve what, at the edges of every date, and after a cut."""

from datetime import UTC, datetime

from inhouse.gateway.contracts.settings import TermsSettings
from inhouse.gateway.contracts.terms import Cut, Terms
from inhouse.gateway.types import NANO, Target

ACME, BOLT, HOME = (Target(name, f"{name}-1", "up") for name in ("acme", "bolt", "home"))


def at(date: str) -> float:
    return datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()


def test_a_contract_holds_from_its_start_until_its_end() -> None:
    terms = Terms({"acme": TermsSettings(start="2025-01-01", end="2026-01-01")})
    assert terms.why_not(ACME, "code", at("2024-12-31T23:59:59")) == "the contract with acme begins on 2025-01-01"
    assert terms.why_not(ACME, "code", at("2025-01-01")) is None
    assert terms.why_not(ACME, "code", at("2025-12-31T23:59:59")) is None
    assert terms.why_not(ACME, "code", at("2026-01-01")) == "the contract with acme ended on 2026-01-01"
    assert terms.why_not(HOME, "code", at("2026-01-01")) is None


def test_tasks_that_it_may_and_may_not_serve() -> None:
    terms = Terms({"acme": TermsSettings(may_serve=["code/*"]), "bolt": TermsSettings(may_not_serve=["medical"])})
    assert terms.why_not(ACME, "code/rust", 0) is None
    assert terms.why_not(ACME, "docs", 0) == "acme may serve code/* only, not task docs"
    assert terms.why_not(ACME, "", 0) == "acme may serve code/* only, not a task that is not known"
    assert terms.why_not(BOLT, "medical", 0) == "bolt may not serve task medical"
    assert terms.why_not(BOLT, "", 0) is None


def test_an_exclusive_task_is_its_own_while_it_lasts_and_free_once_it_is_cut() -> None:
    cuts: dict[str, Cut] = {}
    terms = Terms({"acme": TermsSettings(exclusive=[{"tasks": ["code"], "end": "2026-01-01"}])}, cuts)
    now = at("2025-06-01")
    assert terms.must("code", now) == "acme"
    assert terms.why_not(HOME, "code", now) == "task code is exclusive to acme"
    assert terms.why_not(ACME, "code", now) is terms.why_not(HOME, "docs", now) is None
    assert terms.must("code", at("2026-01-01")) is None
    cuts["acme"] = Cut("acme", now, None, 30, "operator", "price", now - 10)
    assert terms.must("code", now) is None and terms.why_not(HOME, "code", now) is None
    assert terms.why_not(ACME, "docs", now) == "acme was cut on 2025-06-01: price"
    assert terms.why_not(ACME, "docs", now - 1) is None  # not yet


def test_first_refusal_is_no_exclusivity() -> None:
    terms = Terms({"acme": TermsSettings(exclusive=[{"tasks": ["*"], "first_refusal": True}])})
    assert terms.first("code", 0) == "acme" and terms.first("", 0) == "acme"
    assert terms.must("code", 0) is None and terms.why_not(HOME, "code", 0) is None


def test_a_drill_ends() -> None:
    terms = Terms({}, {"acme": Cut("acme", 100, 160, 5, "drill", "", 90)})
    assert terms.why_ended("acme", 99) is None and terms.why_ended("acme", 160) is None
    assert terms.why_ended("acme", 100) == "acme was cut on 1970-01-01T00:01:40Z until 1970-01-01T00:02:40Z"


def test_a_commitment_says_what_is_owed() -> None:
    terms = Terms({"acme": TermsSettings(commitment={"amount": 1000, "start": "2026-01-01", "end": "2027-01-01"})})
    progress = terms.commitment("acme", 250 * NANO, at("2026-07-02T12:00:00"))
    assert progress is not None
    assert (progress.due, progress.forecast, progress.owed) == (500 * NANO, 500 * NANO, 750 * NANO)
    assert terms.commitment("bolt", 0, 0) is None
    open_ended = Terms({"acme": TermsSettings(commitment={"amount": 10})}).commitment("acme", 20 * NANO, 0)
    assert open_ended is not None and open_ended.owed == 0


def test_every_date_is_an_instant() -> None:
    terms = Terms(
        {
            "acme": TermsSettings(
                start="2019-01-01", end="2033-01-01", kill_date="2030-01-01",
                exclusive=[{"tasks": ["*"], "end": "2025-01-01"}],
            ),
            "bolt": TermsSettings(),
        }
    )  # fmt: skip
    dates = ["2019-01-01", "2025-01-01", "2030-01-01", "2033-01-01"]
    assert terms.instants() == [at(date) for date in dates]
