"""The contract that comes as an example says who may answer what from which day on, and can be rehearsed."""

import tomllib
from datetime import UTC, datetime
from importlib import resources

from inhouse.gateway.contracts.calendar import calendar, calendar_lines
from inhouse.gateway.contracts.settings import TermsSettings, mistakes
from inhouse.gateway.contracts.terms import Terms

PARTNER = resources.files("inhouse.gateway.contracts") / "partner"


def partner() -> dict[str, TermsSettings]:
    said = tomllib.loads((PARTNER / "gateway.toml").read_text(encoding="utf-8"))
    return {each["name"]: TermsSettings(**each["terms"]) for each in said["provider"]}


def test_every_date_of_the_example_is_a_day_of_the_calendar() -> None:
    terms = partner()
    assert mistakes(terms, datetime(2026, 11, 30, tzinfo=UTC).timestamp()) == []
    days = calendar(Terms(terms), list(terms), 0.0)
    assert list(calendar_lines(days)) == [
        "from 1970-01-01 on, product/chat, product/code, speech, any other task: nobody may answer",
        "from 2019-07-01 on, product/chat, product/code, speech, any other task: partner may answer",
        "from 2025-01-01 on, product/chat, product/code, any other task: partner is asked first, then other",
        "from 2025-01-01 on, speech: partner is asked first",
        "from 2025-11-01 on, product/chat, product/code: partner is asked first, then other, own",
        "from 2026-04-01 on, product/chat, product/code: partner, other, own may answer",
        "from 2026-04-01 on, speech: partner may answer",
        "from 2026-04-01 on, any other task: partner, other may answer",
        "from 2033-01-01 on, product/chat, product/code: other, own may answer",
        "from 2033-01-01 on, speech: nobody may answer",
        "from 2033-01-01 on, any other task: other may answer",
    ]


def test_a_calendar_begins_with_how_it_is() -> None:
    terms = partner()
    since = datetime(2032, 1, 1, tzinfo=UTC).timestamp()
    days = calendar(Terms(terms), list(terms), since)
    assert {day.at for day in days[:3]} == {since} and len(days) == 6
