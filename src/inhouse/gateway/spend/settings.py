"""The table `price` of a model in gateway.toml."""

from datetime import date
from decimal import Decimal

from pydantic import Field, field_validator, model_validator

from inhouse.providers.prices import TokenPrices

MOST_DIGITS = 12  # behind the point: of a price a million tokens, so that a token's is whole (`price.ATTO`)


class RateSettings(TokenPrices):
    """Prices a million tokens, in the currency that the price names."""

    output: float | None = Field(
        default=None, ge=0, description="of answers; what is left out for models that only embed"
    )

    @field_validator("input", "cached", "written", "written_1h", "output", "thinking")
    @classmethod
    def _check_digits(cls, price: float | None) -> float | None:
        if price is not None and -Decimal(repr(price)).as_tuple().exponent > MOST_DIGITS:  # type: ignore[operator]
            raise ValueError(f"a price has at most {MOST_DIGITS} digits behind the point; round it")
        return price


class LongPromptSettings(RateSettings):
    """Other prices for the whole call where its prompt is long."""

    above: int = Field(ge=1, description="tokens of the prompt; these prices hold for prompts of more")


class PriceSettings(RateSettings):
    """What a model costs from a day on; of several the latest that has begun counts."""

    currency: str = Field(pattern=r"^[A-Z]{3}$", description="a code such as USD; the gateway's own")
    start: date | None = Field(default=None, description="its first day, in UTC; none: it has always been so")
    request: float = Field(default=0.0, ge=0, description="of each request, whatever its length; in whole units")
    long_prompt: tuple[LongPromptSettings, ...] = Field(default=(), description="where long prompts cost otherwise")

    @model_validator(mode="after")
    def _check_long(self) -> "PriceSettings":
        if any((long.output is None) != (self.output is None) for long in self.long_prompt):
            raise ValueError("long_prompt and the price around it both need output, or neither")
        if len({long.above for long in self.long_prompt}) < len(self.long_prompt):
            raise ValueError("two entries of long_prompt begin at the same length; keep one")
        return self
