"""The table of prices: written before listed, by date; what has none is said before anything starts."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage as ListedUsage
from genai_prices import calc_price

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.settings import ModelSettings, ProviderSettings
from inhouse.gateway.spend.listed import listed_model
from inhouse.gateway.spend.prices import price_table
from inhouse.gateway.spend.settings import PriceSettings
from inhouse.gateway.types import Target

NOW = datetime(2026, 11, 30, 15, tzinfo=UTC)
LISTED = [
    ("openai", "https://api.openai.com/v1", "gpt-5-mini"),
    ("anthropic", "https://api.anthropic.com/v1", "claude-sonnet-4-5"),
    ("google", "https://generativelanguage.googleapis.com/v1beta", "gemini-2.5-pro"),
    ("deepseek", "https://api.deepseek.com/v1", "deepseek-chat"),
]


def provider(*models: str, name: str = "acme", dialect: str = "openai", **fields: object) -> ProviderSettings:
    return ProviderSettings(name=name, dialect=dialect, model=[ModelSettings(name=model) for model in models], **fields)  # type: ignore[arg-type]


def test_listed_prices_are_those_of_the_list_to_the_nano_unit() -> None:
    for hour in (3, 15):  # some are cheaper at night
        when = NOW.replace(hour=hour)
        for id, address, name in LISTED:
            model = listed_model(name, address, None)
            assert model is not None, name
            price = model.at(when.timestamp())
            assert price is not None and price.currency == "USD" and name in price.source
            for prompt, cached, completion in ((10, 0, 5), (150_000, 2_000, 900), (400_000, 300_000, 7)):
                usage = ListedUsage(input_tokens=prompt, cache_read_tokens=cached, output_tokens=completion)
                theirs = calc_price(usage, name, provider_id=id, genai_request_timestamp=when).total_price
                assert abs(price.cost(Usage(prompt, cached, completion, 0)) - theirs * 10**9) <= Decimal("0.5")


def test_a_written_price_goes_before_the_list_from_its_day_on() -> None:
    acme = provider("gpt-5-mini", url="https://api.openai.com/v1")
    (target,) = acme.targets()
    raised = PriceSettings(currency="USD", input=9.0, output=9.0, start=date(2026, 12, 1))
    low = PriceSettings(currency="USD", input=1.0, output=1.0, start=date(2026, 6, 1))
    first = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    table = price_table("USD", [acme], {target: [low, raised]}, NOW.timestamp())
    assert [table.at(target, when).per_million() for when in (NOW.timestamp(), first - 1, first)] == [1, 1, 9]
    table = price_table("USD", [acme], {target: [raised]}, NOW.timestamp())
    assert table.at(target, first).per_million() == 9
    assert table.at(target, NOW.timestamp()).source.startswith("genai-prices")


def test_a_model_of_ones_own_costs_its_hardware() -> None:
    house = provider(
        "preview", name="house", dialect="inhouse", run="runs/preview", cost_per_hour=0.36, tokens_per_second=100.0
    )
    table = price_table("EUR", [house], {}, NOW.timestamp())
    assert table.at(house.targets()[0], NOW.timestamp()).cost(Usage(50, 0, 50, 0)) == 100_000


def test_every_price_that_is_missing_is_said_at_once() -> None:
    unknown = provider("big", "small", url="http://127.0.0.1:9/v1")
    house = provider("preview", name="house", dialect="inhouse", run="runs/preview")
    long_tail = provider("nobody-knows-it", name="tail", dialect="any-llm:groq")
    other = provider("m", name="other", url="http://127.0.0.1:9/v1")
    euros = [PriceSettings(currency="EUR", input=1.0, output=1.0)]
    with pytest.raises(ValueError) as error:
        price_table("USD", [unknown, house, long_tail, other], {other.targets()[0]: euros}, NOW.timestamp())
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    assert 'model "big" of provider "acme" has no price' in lines[0]
    assert "cost_per_hour" in lines[2]
    assert "nobody-knows-it" in lines[3]
    assert "in EUR, and the gateway counts in USD" in lines[4]


def test_listed_prices_are_not_taken_for_another_currency() -> None:
    with pytest.raises(ValueError, match="in USD, not EUR"):
        price_table("EUR", [provider("gpt-5-mini")], {}, NOW.timestamp())


def test_two_prices_from_one_day_on_are_refused() -> None:
    acme = provider("big", url="http://127.0.0.1:9/v1")
    twice = [PriceSettings(currency="USD", input=1.0, output=1.0)] * 2
    with pytest.raises(ValueError, match="two prices from the beginning on"):
        price_table("USD", [acme], {acme.targets()[0]: twice}, NOW.timestamp())


def test_who_is_not_in_the_table_has_no_price() -> None:
    table = price_table("USD", [], {}, NOW.timestamp())
    with pytest.raises(LookupError):
        table.at(Target("acme", "big", "big"), NOW.timestamp())
