"""What gateway.toml says, as one value."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from inhouse.api.settings import HttpSettings
from inhouse.common.settings import Settings
from inhouse.gateway.contracts.drills import DrillSettings
from inhouse.gateway.contracts.rollout import RolloutSettings
from inhouse.gateway.contracts.settings import TermsSettings
from inhouse.gateway.failover.settings import FailoverSettings
from inhouse.gateway.routing.settings import EvidenceSettings, RoutingSettings
from inhouse.gateway.settings import (
    BudgetSettings,
    ContentSettings,
    ModelSettings,
    ProviderSettings,
    TeamSettings,
    parse_amount,
)
from inhouse.gateway.spend.prices import PriceTable, price_table
from inhouse.gateway.spend.settings import PriceSettings
from inhouse.gateway.store.limits import Budget, Limits, Rate
from inhouse.gateway.types import Target

NOUN = "configuration"  # what sentences call the file


class ServerSettings(HttpSettings):
    """Where the gateway listens, and its limits."""

    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes any free one")
    unreachable: Literal["warn", "refuse"] = Field(
        default="warn", description="what the start does where a provider cannot be reached"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="json: a line of JSON for everything that is logged, and for every call"
    )
    telemetry: bool = Field(
        default=False, description="send metrics and spans as OpenTelemetry's own variables say (extra telemetry)"
    )


class Model(ModelSettings):
    """A model with its price."""

    price: tuple[PriceSettings, ...] = Field(
        default=(), description="a million tokens, from a day on; none: as genai-prices lists it, in USD"
    )


class Provider(ProviderSettings):
    """A provider with its terms and its models."""

    terms: TermsSettings = TermsSettings()
    model: tuple[Model, ...] = Field(default=(), description="its models; of an inhouse one: default its own name")


class GatewayConfig(Settings):
    """Everything about one gateway. `read_config` gives it with absolute paths, checked."""

    currency: str = Field(pattern=r"^[A-Z]{3}$", description="of all prices, budgets and costs: a code such as USD")
    default: str = Field(description="the model that answers where too little is known to choose")
    store: str = Field(
        default="gateway.sqlite", description="an SQLite file, or postgresql://… without a password (PGPASSWORD has it)"
    )
    folder: Path = Field(
        default=Path(), description="for what lies beside the store: the secret of keys, the audit log's head, caches"
    )
    server: ServerSettings = ServerSettings()
    provider: tuple[Provider, ...] = Field(min_length=1, description="who may answer")
    routing: RoutingSettings = RoutingSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    failover: FailoverSettings = FailoverSettings()
    team: tuple[TeamSettings, ...] = ()
    budget: tuple[BudgetSettings, ...] = ()
    rollout: tuple[RolloutSettings, ...] = ()
    drill: tuple[DrillSettings, ...] = ()
    content: ContentSettings = ContentSettings()

    @property
    def secret_file(self) -> Path:
        return self.folder / "gateway.secret"

    @property
    def audit_head(self) -> Path:
        return self.folder / "gateway.audit-head"

    def providers(self) -> dict[str, Provider]:
        return {provider.name: provider for provider in self.provider}

    def targets(self) -> tuple[Target, ...]:
        """All of them, in the order of the file."""
        return tuple(target for provider in self.provider for target in provider.targets())

    def models(self) -> dict[Target, Model]:
        return {
            target: model
            for provider in self.provider
            for target, model in zip(provider.targets(), provider.model, strict=True)
        }

    def terms(self) -> dict[str, TermsSettings]:
        return {provider.name: provider.terms for provider in self.provider}

    def limits(self) -> Limits:
        """Of teams, and all budgets of the file."""
        rates: list[Rate] = []
        for team in self.team:
            if team.requests_per_minute is not None:
                rates.append(Rate("team", team.name, "requests", team.requests_per_minute))
            if team.tokens_per_minute is not None:
                rates.append(Rate("team", team.name, "tokens", team.tokens_per_minute))
        budgets = [Budget(*parse_amount(each.amount), each.team, each.key, each.task) for each in self.budget]
        return Limits(budgets, rates)

    def prices(self, now: float) -> PriceTable:
        """Raises `ValueError`, a line for every model without a proper price."""
        written = {target: model.price for target, model in self.models().items()}
        return price_table(self.currency, self.provider, written, now)
