"""Prices that `genai-prices` lists: data in the package, read offline, in US dollars, with their dates.

The data are loaded when the first price is looked up (about 0.3 s): who writes all prices down does not wait for it.
"""

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from inhouse.gateway.spend.price import TOKENS, Price, Rates, rate

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

CURRENCY = "USD"
_KINDS = {
    "input": "input_mtok", "cached": "cache_read_mtok", "output": "output_mtok", "thinking": "output_reasoning_mtok",
    "written": "cache_write_mtok", "written_1h": "cache_write_1h_mtok",
}  # fmt: skip


class ListedModel:
    """A model that the list knows; its price depends on the day, and for some on the hour."""

    def __init__(self, info: "ModelInfo", source: str) -> None:
        self._info, self._source = info, source
        self._price = lru_cache(maxsize=8)(self._converted)  # of a day's two or three, not anew for every call

    def at(self, when: float) -> Price | None:
        """None where it says nothing of prompts."""
        prices = self._info.get_prices(datetime.fromtimestamp(when, UTC))
        return self._price(_Same(prices))

    def _converted(self, prices: "_Same") -> Price | None:
        return _price(prices.value, self._source)


class _Same:
    """The list's prices are mutable: told apart by who they are."""

    def __init__(self, value: "ModelPrice") -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def listed_model(model: str, address: str | None, provider: str | None) -> ListedModel | None:
    """By the provider's address, or its name in the list; None where the list does not know them."""
    from genai_prices import __version__
    from genai_prices.data_snapshot import get_snapshot

    if address is None and provider is None:
        return None
    try:
        found, info = get_snapshot().find_provider_model(model, None, provider, address)
    except LookupError:
        return None
    return ListedModel(info, f"genai-prices {__version__}: {found.id} {info.id}")


def _price(prices: "ModelPrice", source: str) -> Price | None:
    given = {kind: getattr(prices, key, None) for kind, key in _KINDS.items()}
    if given["input"] is None:
        return None
    starts = sorted({tier.start for price in given.values() for tier in getattr(price, "tiers", ())})
    request = getattr(prices, "requests_kcount", None)
    return Price(
        CURRENCY,
        _rates(given, 0),
        tuple((start, _rates(given, start + 1)) for start in starts),
        0 if request is None else rate(_at(request, 0)) * TOKENS // 1000,
        source,
    )


def _rates(given: dict[str, Any], prompt: int) -> Rates:
    each = {kind: None if price is None else rate(_at(price, prompt)) for kind, price in given.items()}
    usual = each["input"] or 0
    written = usual if each["written"] is None else each["written"]
    return Rates(
        input=usual,
        cached=usual if each["cached"] is None else each["cached"],
        output=each["output"],
        thinking=each["output"] if each["thinking"] is None else each["thinking"],
        written=written,
        written_1h=written if each["written_1h"] is None else each["written_1h"],
    )


def _at(price: Any, prompt: int) -> Decimal:
    """Of a prompt of so many tokens: the list's limits hold for all tokens of a call."""
    for tier in reversed(getattr(price, "tiers", ())):
        if prompt > tier.start:
            return tier.price
    return getattr(price, "base", price)
