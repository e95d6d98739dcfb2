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
        ("call,Betrag\na,1\n", "no column is named cost; there are call, betrag"),
        ("call,cost,cost\na,1,2\n", 'two columns are named "cost"'),
        ("call;cost\na;1,23\n", 'line 2: cost = "1,23"'),
        ("call,cost\na,1_000\n", 'line 2: cost = "1_000"'),
        ("sep=;\ncall;cost\na;x\n", "line 3"),
        (f"call,cost\n{'a' * 140_000},1\n", "field larger"),
        ("day,model,cost\n30.11.2026,m,1\n", "write it as 2026-11-30"),
        ("call,day,model,cost\na,,,1\n,2026-11-30,m,1\n", "two bills"),
    ],
)
def test_what_is_no_bill_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"bill\.csv") as error:
        read_bill(written(tmp_path, text), "USD")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"), [("[1]\n", "is an object"), ("{\n", "not JSON"), ("[" * 100_000, "not JSON")]
)
def test_what_is_no_json_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match="line 1") as error:
        read_bill(written(tmp_path, text, "bill.jsonl"), "USD")
    assert said in str(error.value)


@pytest.mark.parametrize("text", ["sep=;\r\nCall;cost\r\na;1.5\r\n;;\r\n\r\n", "call\tcost\na\t1.5\n\t\n"])
def test_a_spreadsheet_may_have_written_it(tmp_path: Path, text: str) -> None:
    assert read_bill(written(tmp_path, "\ufeff" + text), "USD").costs == {Line("a", "", ""): 1_500_000_000}


def test_a_bill_in_another_code_is_said(tmp_path: Path) -> None:
    (tmp_path / "bill.csv").write_bytes("call,cost\na,1\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"bill\.csv: this is no UTF-8"):
        read_bill(tmp_path / "bill.csv", "USD")
