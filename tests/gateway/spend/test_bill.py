"""Bills: what they may look like, and the sentence for what is none."""

from pathlib import Path

import pytest

from inhouse.gateway.spend.bill import Line, read_bill


def written(folder: Path, text: str, name: str = "bill.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_lines_of_one_call_are_added(tmp_path: Path) -> None:
    bill = read_bill(written(tmp_path, "Call,cost,note\na,0.000000001,x\nb,2,y\na,1.5,z\n"), "USD")
    assert bill.costs == {Line("a", "", ""): 1_500_000_001, Line("b", "", ""): 2_000_000_000}
    assert bill.is_by_call
    assert set(bill.slack.values()) == {1, 2}  # nine digits: as good as exact


def test_days_and_models_as_json_lines(tmp_path: Path) -> None:
    line = '{"day": "2026-11-30", "model": "big-1", "cost": 0.1, "currency": "USD"}\n'
    bill = read_bill(written(tmp_path, line + "\n" + line, "bill.jsonl"), "USD")
    assert bill.costs == {Line("", "2026-11-30", "big-1"): 200_000_000}
    assert bill.slack == {Line("", "2026-11-30", "big-1"): 2 * 5_000_000}  # each may be rounded to the cent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("call,cost\n", "the bill has no line"),
        ("call,cost\na,\n", "line 2: cost"),
        ("call,cost\na,1\nb,-1\n", "line 3: cost = -1"),
        ("call,cost\na,NaN\n", "line 2: cost = NaN"),
        ("cost,currency,call\n1,EUR,a\n", "line 2: it is in EUR, and the gateway counts in USD"),
        ("cost\n1\n", "line 2: it names neither"),
        ("day,model,cost\n30.11.2026,m,1\n", "write it as 2026-11-30"),
        ("call,day,model,cost\na,,,1\n,2026-11-30,m,1\n", "two bills"),
    ],
)
def test_what_is_no_bill_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"bill\.csv") as error:
        read_bill(written(tmp_path, text), "USD")
    assert said in str(error.value)


@pytest.mark.parametrize(("text", "said"), [("[1]\n", "is an object"), ("{\n", "not JSON")])
def test_what_is_no_json_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match="line 1") as error:
        read_bill(written(tmp_path, text, "bill.jsonl"), "USD")
    assert said in str(error.value)
