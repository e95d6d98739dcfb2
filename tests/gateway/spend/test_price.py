"""Prices: whole numbers from any writing of them, one rounding, and bounds that hold."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend.price import Price, inhouse_price, written_price
from inhouse.gateway.spend.settings import PriceSettings

RATES = st.decimals(0, 200, places=4).map(float)
TOKENS = st.integers(0, 300_000)
FEW = settings(max_examples=40)


@st.composite
def prices(draw: st.DrawFn) -> PriceSettings:
    def rates() -> dict:
        kinds = {"input": draw(RATES), "output": draw(RATES)}
        return kinds | {kind: draw(RATES) for kind in ("cached", "thinking") if draw(st.booleans())}

    long = [rates() | {"above": above} for above in draw(st.lists(TOKENS.filter(bool), max_size=2, unique=True))]
    request = draw(st.sampled_from([0.0, 0.005]))
    return PriceSettings(**rates(), currency="USD", request=request, long_prompt=long)


@st.composite
def usages(
    draw: st.DrawFn, prompt: st.SearchStrategy[int] = TOKENS, completion: st.SearchStrategy[int] = TOKENS
) -> Usage:
    tokens, answer = draw(prompt), draw(completion)
    return Usage(tokens, draw(st.integers(0, tokens)), answer, draw(st.integers(0, answer)))


@FEW
@given(prices(), usages())
def test_a_cost_is_the_plain_sum_to_half_a_nano_unit(written: PriceSettings, usage: Usage) -> None:
    rates = written
    for long in sorted(written.long_prompt, key=lambda each: each.above):
        rates = long if usage.prompt > long.above else rates
    cached = rates.input if rates.cached is None else rates.cached
    thinking = rates.output if rates.thinking is None else rates.thinking
    counts = (usage.prompt - usage.cached, usage.cached, usage.completion - usage.thinking, usage.thinking)
    each = [Decimal(str(price)) for price in (rates.input, cached, rates.output, thinking)]
    units = sum(count * price for count, price in zip(counts, each, strict=True)) / 10**6 + Decimal(
        str(written.request)
    )
    assert abs(written_price(written, "x").cost(usage) - units * 10**9) <= Decimal("0.5")


@FEW
@given(prices(), usages(), TOKENS, TOKENS)
def test_no_use_costs_more_than_the_bound(written: PriceSettings, usage: Usage, prompt: int, completion: int) -> None:
    price = written_price(written, "x")
    assert price.cost(usage) <= price.most(usage.prompt + prompt, usage.completion + completion)


@FEW
@given(st.lists(usages(), max_size=20))
def test_sums_of_many_calls_do_not_drift(many: list[Usage]) -> None:
    price = written_price(PriceSettings(currency="USD", input=0.25, cached=0.025, output=2.0), "x")
    total = Usage(*(sum(column) for column in zip(*many, strict=True))) if many else Usage(0, 0, 0, 0)
    assert sum(price.cost(usage) for usage in many) == price.cost(total)  # these rates are whole nano-units a token


def test_a_version_names_the_numbers() -> None:
    one = PriceSettings(currency="USD", input=2.0, output=10.0)
    same = PriceSettings(currency="USD", input=2.0, cached=2.0, output=10.0, thinking=10.0, start=date(2026, 1, 1))
    assert written_price(one, "here").version == written_price(same, "there").version
    others = [
        one.model_copy(update={"output": 10.1}),
        one.model_copy(update={"currency": "EUR"}),
        one.model_copy(update={"request": 0.001}),
    ]
    assert len({written_price(each, "here").version for each in [one, *others]}) == 4


def test_answers_of_a_model_that_embeds_are_never_free() -> None:
    price = written_price(PriceSettings(currency="USD", input=0.02), "x")
    assert price.cost(Usage(100, 0, 10, 0)) == price.cost(Usage(110, 0, 0, 0)) == 2200


def test_an_hour_of_hardware_is_shared_by_its_tokens() -> None:
    price: Price = inhouse_price("USD", cost_per_hour=3.6, tokens_per_second=1000.0)
    assert price.cost(Usage(1500, 700, 500, 100)) == 2_000_000  # two seconds of it: 0.002
    assert price.per_million() == 1


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"input": 1.0}, "Field required"),
        ({"input": 1e-13, "currency": "USD"}, "12 digits"),
        ({"input": -1.0, "currency": "USD"}, "greater than or equal to 0"),
        ({"input": 1.0, "currency": "dollars"}, "pattern"),
        ({"input": 1.0, "output": 1.0, "currency": "USD", "long_prompt": [{"above": 9, "input": 2.0}]}, "both need"),
        ({"input": 1.0, "currency": "USD", "long_prompt": [{"above": 9, "input": 2.0}] * 2}, "the same length"),
    ],
)  # fmt: skip
def test_what_is_no_price_is_refused(given_: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PriceSettings(**given_)


@FEW
@given(prices(), TOKENS, TOKENS, TOKENS, TOKENS)
def test_a_part_that_is_more_than_its_whole_makes_nothing_cheaper(
    written: PriceSettings, prompt: int, cached: int, completion: int, thinking: int
) -> None:
    cost = written_price(written, "x").cost
    inside = Usage(prompt, min(cached, prompt), completion, min(thinking, completion))
    assert cost(Usage(prompt, cached, completion, thinking)) >= cost(inside) >= 0
