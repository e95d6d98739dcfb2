"""The price of every target at any time. An unknown price is an error at the start, never a zero."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from inhouse.gateway.settings import ProviderSettings
from inhouse.gateway.spend.listed import CURRENCY, ListedModel, listed_model
from inhouse.gateway.spend.price import Price, inhouse_price, written_price
from inhouse.gateway.spend.settings import PriceSettings
from inhouse.gateway.types import Target

_ANY_LLM = "any-llm:"


class PriceTable:
    """`table.at(target, when)`. Made by `price_table`, which has checked that every target has a price."""

    def __init__(self, written: Mapping[Target, Sequence[tuple[float, Price]]], listed: Mapping[Target, ListedModel]):
        """`written`: from when on (seconds, UTC), the latest first."""
        self._written, self._listed = written, listed

    def at(self, target: Target, when: float) -> Price:
        """Raises `LookupError` for a target that the configuration does not have."""
        for start, price in self._written.get(target, ()):
            if when >= start:
                return price
        if (listed := self._listed.get(target)) and (now := listed.at(when)):
            return now
        raise LookupError(f"{target.model} at {target.provider} has no price")


def price_table(
    currency: str,
    providers: Sequence[ProviderSettings],
    written: Mapping[Target, Sequence[PriceSettings]],
    now: float,
) -> PriceTable:
    """Of all targets of the providers: what is written for a model goes before what is listed.

    Raises `ValueError`, a line each: for a model without a price, one in another currency, two that begin on one day,
    and for one of one's own whose hardware has no cost.
    """
    wrong: list[str] = []
    found: dict[Target, Sequence[tuple[float, Price]]] = {}
    listed: dict[Target, ListedModel] = {}
    for provider in providers:
        for target in provider.targets():
            try:
                own = _written(currency, target, written.get(target, ()))
                if not own and (made := _inhouse(currency, provider, target)):
                    own = [(0.0, made)]
                found[target] = own
                if (not own or own[-1][0] > now) and (model := _listed(currency, provider, target, now)):
                    listed[target] = model
            except ValueError as error:
                wrong.append(str(error))
    if wrong:
        raise ValueError("\n".join(wrong))
    return PriceTable(found, listed)


def _written(currency: str, target: Target, given: Sequence[PriceSettings]) -> list[tuple[float, Price]]:
    name = f'model "{target.model}" of provider "{target.provider}"'
    for price in given:
        if price.currency != currency:
            raise ValueError(
                f"{name} has a price in {price.currency}, and the gateway counts in {currency}: convert it"
            )
    starts = [price.start for price in given]
    if twice := next((start for start in starts if starts.count(start) > 1), None) or starts.count(None) > 1:
        raise ValueError(f"{name} has two prices from {'the beginning' if twice is True else twice} on: keep one")
    made = [(_midnight(price), written_price(price, "gateway.toml")) for price in given]
    return sorted(made, key=lambda entry: -entry[0])


def _midnight(price: PriceSettings) -> float:
    if price.start is None:
        return 0.0
    return datetime(price.start.year, price.start.month, price.start.day, tzinfo=UTC).timestamp()


def _inhouse(currency: str, provider: ProviderSettings, target: Target) -> Price | None:
    if not provider.is_inhouse:
        return None
    if provider.cost_per_hour is None or provider.tokens_per_second is None:
        raise ValueError(
            f'provider "{provider.name}" needs cost_per_hour and tokens_per_second, or its model "{target.model}" a '
            "price: a model of one's own costs its hardware"
        )
    return inhouse_price(currency, provider.cost_per_hour, provider.tokens_per_second)


def _listed(currency: str, provider: ProviderSettings, target: Target, now: float) -> ListedModel:
    name = provider.dialect.removeprefix(_ANY_LLM) if provider.dialect.startswith(_ANY_LLM) else None
    model = listed_model(target.upstream, provider.address if name is None else None, name)
    what = f'model "{target.model}" of provider "{provider.name}"'
    if model is None or model.at(now) is None:
        raise ValueError(
            f"{what} has no price, here or in the list of genai-prices: write "
            f'price = [{{ currency = "{currency}", input = …, output = … }}], a million tokens'
        )
    if currency != CURRENCY:
        raise ValueError(
            f"{what} has no price here, and the list of genai-prices is in {CURRENCY}, not {currency}: "
            f'write price = [{{ currency = "{currency}", input = …, output = … }}], a million tokens'
        )
    return model
