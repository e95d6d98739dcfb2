"""The tables of gateway.toml that several parts of the gateway read.

Each part defines its own table beside its code, and `config` composes them all: parts import this file, never `config`.
"""

import re
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from inhouse.common.settings import Settings
from inhouse.gateway.types import NANO, Target
from inhouse.providers.address import check_address
from inhouse.providers.any_llm import PREFIX
from inhouse.providers.dialects import DIALECTS, dialect
from inhouse.providers.expressible import check_words
from inhouse.providers.settings import LimitSettings

INHOUSE = "inhouse"
AUTO = "auto"  # what a request names to leave the choice to the gateway; auto:TASK names the task as well
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
MODEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
ADDRESSES = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
}
_ANY_LLM = re.compile(rf"{PREFIX}[a-z0-9_-]+")
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/(day|month)")

Period = Literal["day", "month"]


class Amount(NamedTuple):
    """So much money in every day or month of the calendar, in UTC."""

    nano: int
    period: Period


def parse_amount(text: str) -> Amount:
    """`"500/month"`. Raises `ValueError` with a sentence."""
    if (match := _AMOUNT.fullmatch(text)) is None:
        raise ValueError(
            f'"{text[:40]}" is no budget: write how much, and in which time, such as 500/month or 2.50/day'
        )
    return Amount(int(Decimal(match[1]) * NANO), match[2])  # type: ignore[arg-type]  # the pattern has these two


class ModelSettings(Settings):
    """A model at a provider."""

    name: str = Field(
        pattern=MODEL_NAME, description="as requests name it; the same at several providers: each can take its place"
    )
    upstream: str = Field(default="", description="as the provider names it; default: the same")
    context: PositiveInt | None = Field(default=None, description="tokens of a prompt and its answer together")
    max_output: PositiveInt | None = Field(default=None, description="tokens of an answer")
    can: tuple[str, ...] = Field(default=(), description="parts of a request that it takes beyond its dialect's table")
    cannot: tuple[str, ...] = Field(
        default=(), description="parts of a request that it does not take though its dialect has words for them"
    )
    can_prefill: bool = Field(default=False, description="it goes on with a last message of the assistant's")
    early_access: tuple[str, ...] = Field(default=(), description="groups that may ask for it; none: everybody")

    @model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        if self.name == AUTO or self.name.startswith(f"{AUTO}:"):
            raise ValueError(
                f'no model may be named "{self.name}": requests say that to leave the choice to the gateway'
            )
        check_words((*self.can, *self.cannot))
        if both := sorted({*self.can} & {*self.cannot}):
            raise ValueError(f'"{both[0]}" stands in can and in cannot; keep one of them')
        if self.context and self.max_output and self.max_output > self.context:
            raise ValueError(f"max_output = {self.max_output} is more than context = {self.context}; lower it")
        return self


class ProviderSettings(Settings):
    """Who answers: somebody's endpoint, or a model of one's own that the gateway starts and watches."""

    name: str = Field(pattern=NAME, description="what decisions, budgets and cuts call it")
    dialect: str = Field(description=f"how it is spoken to: {', '.join(DIALECTS)}, or {PREFIX}NAME")
    url: str | None = Field(default=None, description="its address; default: that of the dialect's makers")
    key_env: str | None = Field(default=None, pattern=VARIABLE, description="the environment variable with its key")
    region: str = Field(default="", description="where it computes; what routing must keep to")
    run: Path | None = Field(default=None, description="inhouse: the run or model folder that the gateway serves")
    cost_per_hour: PositiveFloat | None = Field(default=None, description="inhouse: of its hardware, in the currency")
    tokens_per_second: PositiveFloat | None = Field(default=None, description="inhouse: measured under the usual load")
    limits: LimitSettings = LimitSettings()
    model: tuple[ModelSettings, ...] = ()

    @field_validator("dialect")
    @classmethod
    def _check_dialect(cls, name: str) -> str:
        if name.startswith(PREFIX) and not _ANY_LLM.fullmatch(name):
            raise ValueError(f"behind {PREFIX} stands that library's name of a provider, such as {PREFIX}bedrock")
        dialect(name[:60])
        return name

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        return None if url is None else check_address(url)

    @model_validator(mode="after")
    def _check(self) -> "ProviderSettings":
        if self.is_inhouse and (self.run is None or self.url or self.key_env):
            raise ValueError("an inhouse provider needs run, and neither url nor key_env: the gateway starts it itself")
        if not self.is_inhouse and (self.run or self.cost_per_hour or self.tokens_per_second):
            raise ValueError(f'run, cost_per_hour and tokens_per_second are for dialect = "{INHOUSE}"')
        names = [model.name for model in self.model]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f'two models are named "{twice[0]}"; a name may stand once at a provider')
        return self

    @property
    def address(self) -> str | None:
        """None where it is not known before it runs, or where a library of others knows it."""
        return self.url or ADDRESSES.get(self.dialect)

    @property
    def is_inhouse(self) -> bool:
        return self.dialect == INHOUSE

    def targets(self) -> tuple[Target, ...]:
        return tuple(Target(self.name, model.name, model.upstream or model.name) for model in self.model)


class QuotaSettings(Settings):
    """What a key or a team may ask in a minute."""

    requests_per_minute: PositiveInt | None = Field(default=None, description="none: any number")
    tokens_per_minute: PositiveInt | None = Field(default=None, description="prompts and answers; none: any number")


class TeamSettings(QuotaSettings):
    """A team: its keys share its limits, its budgets and its early access."""

    name: str = Field(pattern=NAME, description="what its keys are created for")
    groups: tuple[str, ...] = Field(default=(), description="of early access that its keys belong to")


class BudgetSettings(Settings):
    """How much may be spent by one team, by one key, on one task; what is not given is not looked at."""

    team: str | None = Field(default=None, description="the team whose spend counts; none: everybody's")
    key: str | None = Field(default=None, description="the id of the key whose spend counts; none: every key's")
    task: str | None = Field(default=None, description="the task whose spend counts; none: every task's")
    amount: str = Field(description="how much in which time: 500/month, 2.50/day; calendar days and months in UTC")

    @field_validator("amount")
    @classmethod
    def _check_amount(cls, amount: str) -> str:
        parse_amount(amount)
        return amount


class ContentSettings(Settings):
    """Prompts and answers are stored for keys that ask for it alone."""

    most_days: NonNegativeInt = Field(default=30, description="the longest that a key may have its content kept")
