"""What tokens cost, from a small TOML file of the user's own; a price that is not there is unknown, never nothing.

```
[[price]]                # US dollars a million tokens
model = "big-5*"         # a name, or a pattern of names; the first that fits counts
input = 1.25
cached = 0.125           # and the other keys of a price in gateway.toml: written, written_1h, thinking
output = 10.0
```
"""

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, ValidationError

from inhouse.api.wire.pieces import Usage
from inhouse.common.settings import Settings


class TokenPrices(Settings):
    """What tokens of each kind cost, a million of them: the keys of every price."""

    input: float = Field(ge=0, description="of prompts, a million tokens")
    cached: float | None = Field(default=None, ge=0, description="of prompts, what was in a cache; default: as input")
    written: float | None = Field(
        default=None, ge=0, description="of prompts, what was written into a cache; default: as input"
    )
    written_1h: float | None = Field(
        default=None, ge=0, description="of these, what is kept there for an hour; default: as written"
    )
    thinking: float | None = Field(default=None, ge=0, description="of answers, what is thinking; default: as output")


class Price(TokenPrices):
    """Of the models whose names fit the pattern `model`, in US dollars a million tokens."""

    model: str = Field(min_length=1, description="a model's name, or a pattern of names: * stands for anything")
    output: float = Field(ge=0, description="of answers")

    def cost(self, usage: Usage) -> float:
        """US dollars."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        written_1h = written if self.written_1h is None else self.written_1h
        thinking = self.output if self.thinking is None else self.thinking
        read = (usage.prompt - usage.cached - usage.written) * self.input + usage.cached * cached
        kept = (usage.written - usage.written_1h) * written + usage.written_1h * written_1h
        said = (usage.completion - usage.thinking) * self.output + usage.thinking * thinking
        return (read + kept + said) / 1e6


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
