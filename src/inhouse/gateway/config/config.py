"""What gateway.toml says, as one value."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from inhouse.api.settings import ServeSettings
from inhouse.common.settings import Settings
from inhouse.gateway.settings import BudgetSettings, ContentSettings, ModelSettings, ProviderSettings, TeamSettings
from inhouse.gateway.types import Target


class ServerSettings(ServeSettings):
    """Where the gateway listens, and its limits."""

    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes any free one")
    unreachable: Literal["warn", "refuse"] = Field(
        default="warn", description="what the start does where a provider cannot be reached"
    )


class Model(ModelSettings):
    """A model with its price."""


class Provider(ProviderSettings):
    """A provider with its terms and its models."""

    model: tuple[Model, ...] = ()


class GatewayConfig(Settings):
    """Everything about one gateway. `read_config` gives it with absolute paths."""

    currency: str = Field(pattern=r"^[A-Z]{3}$", description="of all prices, budgets and costs: a code such as USD")
    default: str = Field(description="the model that answers where too little is known to choose")
    store: str = Field(
        default="gateway.sqlite", description="an SQLite file, or postgresql://… without a password (PGPASSWORD has it)"
    )
    folder: Path = Field(
        default=Path(), description="for what lies beside the store: the secret of keys, the audit log's head, caches"
    )
    secret_env: str | None = Field(
        default=None, description="the environment variable with the secret that keys are hashed with; none: a file"
    )
    server: ServerSettings = ServerSettings()
    provider: tuple[Provider, ...] = Field(min_length=1, description="who may answer")
    team: tuple[TeamSettings, ...] = ()
    budget: tuple[BudgetSettings, ...] = ()
    content: ContentSettings = ContentSettings()

    def providers(self) -> dict[str, Provider]:
        return {provider.name: provider for provider in self.provider}

    def targets(self) -> tuple[Target, ...]:
        """All of them, in the order of the file."""
        return tuple(target for provider in self.provider for target in provider.targets())

    def model_of(self, target: Target) -> Model:
        return next(model for model in self.providers()[target.provider].model if model.name == target.model)
