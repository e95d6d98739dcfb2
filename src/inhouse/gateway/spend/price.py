"""A price in whole numbers, and where it comes from.

Rates are whole atto-units (1e-18) of the currency a token, so that 12 digits behind the point of a price a million
tokens are exact; a cost is rounded once, at its end, to a whole nano-unit.
"""

import hashlib
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import NamedTuple

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend.settings import PriceSettings, RateSettings
from inhouse.gateway.types import NANO

ATTO = 10**18  # of one unit of the currency
TOKENS = 10**6  # what prices are written for


class Rates(NamedTuple):
    """Atto-units a token. `output` None: of a model that embeds, and answers nothing."""

    input: int
    cached: int
    output: int | None
    thinking: int | None
    written: int
    written_1h: int

    def of(self, usage: Usage) -> int:
        """Atto-units. What should not have been used is never free: without a price of answers they cost as prompts.

        A part that is more than its whole was counted beside it, as some providers do.
        """
        output = self.input if self.output is None else self.output
        thinking = output if self.thinking is None else self.thinking
        return (
            _rest(usage.prompt, usage.cached + usage.written) * self.input
            + usage.cached * self.cached
            + _rest(usage.written, usage.written_1h) * self.written
            + usage.written_1h * self.written_1h
            + _rest(usage.completion, usage.thinking) * output
            + usage.thinking * thinking
        )


class Price:
    """Of one model at one time: `cost(usage)` in nano-units; `version` names exactly these numbers."""

    def __init__(self, currency: str, rates: Rates, long: tuple[tuple[int, Rates], ...], request: int, source: str):
        """`long`: rates of prompts of more than so many tokens, the shortest first; `request`: atto-units of each."""
        self.currency, self.rates, self.long, self.request, self.source = currency, rates, long, request, source

    @cached_property
    def version(self) -> str:
        """Twelve letters; equal prices have equal ones, wherever they come from."""
        numbers = repr((self.currency, tuple(self.rates), [(n, tuple(rates)) for n, rates in self.long], self.request))
        return hashlib.sha256(numbers.encode()).hexdigest()[:12]

    def rates_for(self, prompt: int) -> Rates:
        """Of a prompt of so many tokens: where a limit is passed, its rates hold for the whole call."""
        return next((rates for above, rates in reversed(self.long) if prompt > above), self.rates)

    def cost(self, usage: Usage) -> int:
        """Nano-units, rounded half up."""
        return to_nano(self.request + self.rates_for(usage.prompt).of(usage))

    def most(self, prompt: int, completion: int) -> int:
        """Nano-units: no use of at most so many tokens costs more, however it falls into kinds."""
        limits = [above for above, _ in self.long if above < prompt]
        lengths = [prompt, *limits]  # a step may make a shorter prompt the dearer one
        return to_nano(self.request + max(_dearest(self.rates_for(n), n, completion) for n in lengths), up=True)

    def per_million(self, kind: str = "input") -> Decimal:
        """The rate as prices are written, to show."""
        rate: int | None = getattr(self.rates, kind)
        return Decimal(rate or 0) * TOKENS / ATTO


def _rest(whole: int, part: int) -> int:
    return whole - part if part <= whole else whole


def _dearest(rates: Rates, prompt: int, completion: int) -> int:
    output = rates.input if rates.output is None else rates.output
    read = max(rates.input, rates.cached, rates.written, rates.written_1h)
    return prompt * read + completion * max(output, rates.thinking or 0)


def to_nano(atto: int, up: bool = False) -> int:
    """Half up, or up."""
    step = ATTO // NANO
    return (atto + (step - 1 if up else step // 2)) // step


def rate(per_million: float | Decimal) -> int:
    """Atto-units a token of a price a million tokens, to the nearest."""
    exact = Decimal(repr(per_million)) if isinstance(per_million, float) else per_million
    return int((exact * (ATTO // TOKENS)).to_integral_value(ROUND_HALF_UP))


def rates_of(settings: RateSettings) -> Rates:
    """As written."""
    output = None if settings.output is None else rate(settings.output)
    written = settings.input if settings.written is None else settings.written
    return Rates(
        input=rate(settings.input),
        cached=rate(settings.input if settings.cached is None else settings.cached),
        output=output,
        thinking=output if settings.thinking is None else rate(settings.thinking),
        written=rate(written),
        written_1h=rate(written if settings.written_1h is None else settings.written_1h),
    )


def written_price(settings: PriceSettings, source: str) -> Price:
    """A price that the configuration gives."""
    long = tuple(sorted((long.above, rates_of(long)) for long in settings.long_prompt))
    request = rate(settings.request) * TOKENS  # of whole units, not of millions
    return Price(settings.currency, rates_of(settings), long, request, source)


def inhouse_price(currency: str, cost_per_hour: float, tokens_per_second: float) -> Price:
    """Of a model of one's own: its hardware's hour shared by the tokens of an hour, prompts and answers alike."""
    exact = Decimal(repr(cost_per_hour)) / (Decimal(repr(tokens_per_second)) * 3600)
    each = int((exact * ATTO).to_integral_value(ROUND_HALF_UP))
    source = f"{cost_per_hour:g} an hour at {tokens_per_second:g} tokens/s"
    return Price(currency, Rates(*[each] * 6), (), 0, source)
