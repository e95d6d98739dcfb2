"""What tokens cost, from a small TOML file of the user's own; a price that is not there is unknown, never nothing.

```
[[price]]                # US dollars a million tokens
model = "gpt-5*"         # a name, or a pattern of names; the first that fits counts
input = 1.25
cached = 0.125           # of the input, what the endpoint found in its cache; default: as input
output = 10.0
```
"""

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, ValidationError

from inhouse.api.wire.pieces import Usage
from inhouse.common.settings import Settings


class Price(Settings):
    """Of the models whose names fit the pattern `model`, in US dollars a million tokens."""

    model: str = Field(min_length=1, description="a model's name, or a pattern of names: * stands for anything")
    input: float = Field(ge=0, allow_inf_nan=False, description="US dollars a million tokens of prompts")
    output: float = Field(
        ge=0, allow_inf_nan=False, description="US dollars a million tokens of answers, thinking included"
    )
    cached: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="of prompts, what was in the cache; default: as input"
    )

    def cost(self, usage: Usage) -> float:
        """US dollars."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.prompt - usage.cached
        return (fresh * self.input + usage.cached * cached + usage.completion * self.output) / 1e6


class PriceFile(Settings):
    price: tuple[Price, ...] = ()


def read_prices(file: Path) -> tuple[Price, ...]:
    """Raises `ValueError` naming the file and the key where it is not such a file: a broken one is never no price."""
    try:
        return PriceFile(**tomllib.loads(file.read_text(encoding="utf-8-sig"))).price
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{file}: {where}: {first['msg'].lower()}") from error
    except ValueError as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from error


def price_of(model: str, prices: tuple[Price, ...]) -> Price | None:
    """The first that fits, if any."""
    return next((price for price in prices if fnmatchcase(model, price.model)), None)


def cost_of(usage: Usage | None, price: Price | None) -> float | None:
    """US dollars; None where the price or the use is unknown."""
    return None if usage is None or price is None else price.cost(usage)
