"""What docs/spend.md shows is what the code takes."""

import re
import tomllib
from pathlib import Path

from inhouse.gateway.spend.bill import read_bill
from inhouse.gateway.spend.settings import PriceSettings

PAGE = Path(__file__).parents[3] / "docs" / "spend.md"


def test_the_examples_of_the_page_hold(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    price, by_day, by_call = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (model,) = tomllib.loads(price)["provider"]["model"]
    assert len([PriceSettings(**each) for each in model["price"]]) == 2
    for bill in (by_day, by_call):
        (tmp_path / "bill.csv").write_text(bill, encoding="utf-8")
        assert read_bill(tmp_path / "bill.csv", "USD").costs
    keys = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    assert keys == set(PriceSettings.model_fields)
