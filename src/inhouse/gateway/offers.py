"""What routing chooses among: every target with its limits, its price, and what it cannot take."""

from functools import partial

from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.config.config import GatewayConfig
from inhouse.gateway.routing.classifier import open_classifier
from inhouse.gateway.routing.evidence_files import Votes, read_evidence
from inhouse.gateway.routing.offer import Offer, Rules
from inhouse.gateway.routing.request import AnyRequest
from inhouse.gateway.routing.router import Router
from inhouse.gateway.settings import ModelSettings
from inhouse.gateway.spend.prices import PriceTable
from inhouse.gateway.store.database import Database
from inhouse.gateway.store.votes import tallies
from inhouse.gateway.types import Target
from inhouse.providers.adapter import Adapter
from inhouse.providers.dialects import dialect
from inhouse.providers.expressible import Capabilities, missing_parts


async def new_router(config: GatewayConfig, db: Database, rules: Rules, prices: PriceTable) -> Router:
    """With the evidence as it is now; of a gateway that runs, or beside it."""
    offers = [_offer(config, target, model, prices, db.now()) for target, model in config.models().items()]
    evidence = read_evidence(config.evidence, await votes_of(db))
    classifier = open_classifier(config.folder, config.routing.labels)
    return Router(offers, evidence, classifier, config.routing, config.default, rules)


async def votes_of(db: Database) -> list[Votes]:
    """Users' votes, as evidence."""
    return [Votes(*tally) for tally in await tallies(db)]


def _offer(config: GatewayConfig, target: Target, model: ModelSettings, prices: PriceTable, now: float) -> Offer:
    provider = config.providers()[target.provider]
    only_embeds = prices.at(target, now).rates.output is None
    return Offer(
        target, provider.is_inhouse, provider.region, model.context, model.max_output,
        partial(_missing, dialect(provider.dialect), capabilities(model), only_embeds), partial(prices.at, target),
        model.early_access,
    )  # fmt: skip


def _missing(adapter: Adapter, model: Capabilities, only_embeds: bool, request: AnyRequest) -> list[str]:
    """The parts of a request that would not reach this model."""
    if only_embeds and not isinstance(request, EmbeddingRequest):
        return ["answers (its price is one of vectors)"]
    if isinstance(request, EmbeddingRequest):
        if (embedder := adapter.embeddings) is None:
            return ["embeddings"]
        return ["cache_salt"] if request.cache_salt is not None and not embedder.has_salt else []
    if isinstance(request, CompletionRequest):
        if adapter.completions is None:
            return ["completions"]
        adapter = adapter.completions
    return missing_parts(request, adapter.expresses, model)


def capabilities(model: ModelSettings) -> Capabilities:
    """What it can and cannot beside its dialect's table."""
    can = {*model.can, *(["messages.prefill"] if model.can_prefill else [])}
    return Capabilities(frozenset(can), frozenset(model.cannot), model.max_output)
