"""The table: kinds apart, compared only where they are the same, mixed by weight."""

import pytest

from inhouse.gateway.routing.evidence import Evidence, Finding, Kind, share_of
from inhouse.gateway.routing.settings import WeightSettings
from inhouse.gateway.types import Estimate


def finding(model: str, kind: Kind, mean: float, n: int = 100) -> Finding:
    return Finding("t", model, kind, Estimate(mean, mean - 0.1, mean + 0.1, n), "file")


def test_the_kind_of_most_weight_decides_who_is_known() -> None:
    table = Evidence(
        [finding("a", "evaluations", 0.6), finding("b", "evaluations", 0.5), finding("c", "votes", 0.9)],
        WeightSettings(),
    )
    assert table.kinds("t", "abc", 30) == ("evaluations",)
    assert table.quality("t", "abc", 30).keys() == {"a", "b"}
    assert table.quality("t", "c", 30).keys() == {"c"}
    assert table.quality("other", "abc", 30) == {}


def test_another_kind_is_mixed_in_where_all_have_it() -> None:
    findings = [
        finding("a", "evaluations", 0.6), finding("b", "evaluations", 0.5), finding("a", "boards", 0.3),
        finding("b", "boards", 0.8), finding("a", "votes", 0.9),
    ]  # fmt: skip
    found = Evidence(findings, WeightSettings(evaluations=1.0, boards=0.5)).quality("t", "ab", 30)
    assert found["a"].mean == pytest.approx((0.6 + 0.5 * 0.3) / 1.5) and found["b"].mean == pytest.approx(0.6)
    assert found["a"].n == 200
    half = ((2 / 3 * 0.1) ** 2 + (1 / 3 * 0.1) ** 2) ** 0.5
    assert found["a"].high - found["a"].mean == pytest.approx(half)


def test_a_kind_without_weight_and_too_few_observations_count_for_nothing() -> None:
    findings = [finding("a", "evaluations", 0.6), finding("a", "votes", 0.9, n=29), finding("b", "votes", 0.4)]
    table = Evidence(findings, WeightSettings(evaluations=0.0))
    assert table.quality("t", "ab", 30).keys() == {"b"}
    assert len(table.findings("t")) == 3  # all of it can be looked at


def test_a_later_finding_takes_the_place_of_an_earlier_one() -> None:
    table = Evidence([finding("a", "votes", 0.2), finding("a", "votes", 0.7)], WeightSettings())
    assert table.quality("t", "a", 30)["a"].mean == 0.7


@pytest.mark.parametrize(("good", "n"), [(0, 1), (1, 1), (3, 10), (500, 1000)])
def test_shares_have_wilson_intervals(good: int, n: int) -> None:
    share = share_of(good, n)
    assert 0 <= share.low <= share.mean <= share.high <= 1 and share.low < share.high
    assert share_of(5, 10).low == pytest.approx(0.2366, abs=1e-4)  # Wilson 1927, as tabled
