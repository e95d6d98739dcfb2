"""What the verbs print."""

from inhouse.gateway.spend.bill import Line
from inhouse.gateway.spend.reconcile import Difference, Reconciliation
from inhouse.gateway.tables import audit_line, reconciliation_lines


def test_a_bill_is_told_line_by_line() -> None:
    gap = Difference(
        Line("", "2026-11-30", "big"), 5_000_000_000, 1_000_000_000, 0, 2_000_000_000, "the bill asks more"
    )
    lines = list(reconciliation_lines(Reconciliation(3, 2, -500_000_000, 4, 1, (gap,) * 60), "USD"))
    assert lines[0] == "3 agree; 2 estimates are exact now (-0.500000 USD)"
    assert lines[1].startswith("4 estimates of these days are not on the bill")
    assert lines[2].startswith("1 calls of these days are still under way")
    assert lines[3] == (
        "big on 2026-11-30: billed 5.000000, booked 1.000000 (0.000000 to 2.000000): the bill asks more"
    )
    assert lines[-1] == "… and 10 more that do not agree"


def test_an_act_says_its_times_as_times() -> None:
    cut = {"provider": "acme", "at": 1_800_000_000.5, "until": None, "grace": 30.0, "ordered": 1_800_000_000.5}
    line = audit_line({"at": 1_800_000_000.0, "by": "root", "what": "cut", "details": cut})
    assert line.count("2027-01-15T08:00:00") == 3 and "18000000" not in line and "grace 30.0" in line
