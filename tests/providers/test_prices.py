"""Prices: what is unknown is none, and a broken file is an error."""

from pathlib import Path

import pytest

from inhouse.api.wire.pieces import Usage
from inhouse.providers.prices import cost_of, price_of, read_prices

FILE = """
[[price]]
model = "big-1"
input = 2.0
cached = 0.5
output = 10.0
[[price]]
model = "big-*"
input = 3.0
output = 15.0
"""


def test_costs_are_by_kind_of_token(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(FILE)
    prices = read_prices(tmp_path / "prices.toml")
    usage = Usage(prompt=1_000_000, cached=400_000, completion=100_000, thinking=50_000)
    assert cost_of(usage, price_of("big-1", prices)) == pytest.approx(1.2 + 0.2 + 1.0)
    assert cost_of(usage, price_of("big-2", prices)) == pytest.approx(3.0 + 1.5)
    wrote = usage._replace(written=300_000, written_1h=100_000)
    dear = price_of("big-1", prices).model_copy(update={"written": 2.5, "written_1h": 4.0, "thinking": 20.0})
    assert cost_of(wrote, dear) == pytest.approx(0.6 + 0.2 + 0.5 + 0.4 + 0.5 + 1.0)
    assert price_of("small", prices) is None
    assert cost_of(usage, None) is None
    assert cost_of(None, price_of("big-1", prices)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[price]]\nmodel = 'a'\ninput = 1.0\n", "price.0.output"),
        ("[[price]]\nmodel = 'a'\ninput = -1.0\noutput = 1.0\n", "price.0.input"),
        ("[[price]]\nmodel = 'a'\ninput = '1 EUR'\noutput = 1.0\n", "price.0.input"),
        ("[[prices]]\n", "prices"),
        ("price = [", "not valid TOML"),
    ],
)
def test_a_broken_file_is_an_error(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_prices(tmp_path / "p.toml")
