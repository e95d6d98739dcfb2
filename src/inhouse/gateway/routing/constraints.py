"""What a target must meet before its quality counts: contracts, early access, region, what it can take, the budget."""

from typing import NamedTuple

from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.gateway.routing.offer import Offer, Rules
from inhouse.gateway.routing.request import AnyRequest
from inhouse.gateway.routing.settings import RoutingSettings
from inhouse.gateway.spend.cost import Size, most_cost
from inhouse.gateway.types import NANO, Caller


class Wanted(NamedTuple):
    """A request with what is known of it, worked out once for all targets."""

    request: AnyRequest
    caller: Caller
    task: str
    size: Size
    asked_tokens: int | None  # of one answer
    answers: int
    budget_left: int | None  # nano; None: no limit
    now: float


class Hindrance(NamedTuple):
    """Why a target is out. `step`: how far it came; of several who are all out, the one that came furthest tells the
    caller what could be done about it."""

    step: int
    status: int
    code: str
    words: str


def hindrance(offer: Offer, wanted: Wanted, rules: Rules, settings: RoutingSettings) -> Hindrance | None:
    """The first constraint that the target does not meet."""
    return (
        _forbidden(offer, wanted, rules)
        or _elsewhere(offer, wanted, settings)
        or _incapable(offer, wanted)
        or _too_dear(offer, wanted)
    )


def bounded(offer: Offer, wanted: Wanted) -> Size:
    """The request's size at this target."""
    answer = min((limit for limit in (offer.max_output, offer.context) if limit is not None), default=None)
    size = wanted.size
    most = size.most_completion if answer is None else min(size.most_completion, answer * wanted.answers)
    prompt = size.most_prompt if offer.context is None else min(size.most_prompt, offer.context)
    return Size(size.prompt, prompt, most)


def _forbidden(offer: Offer, wanted: Wanted, rules: Rules) -> Hindrance | None:
    if why := rules.why_not(offer.target, wanted.task, wanted.now):
        return Hindrance(0, 403, "contract", why)
    return None


def _elsewhere(offer: Offer, wanted: Wanted, settings: RoutingSettings) -> Hindrance | None:
    if offer.groups and not {*offer.groups} & {*wanted.caller.groups}:
        return Hindrance(1, 403, "early_access", "it is in early access, and this key is not on its list")
    if settings.regions and offer.region not in settings.regions:
        where = f"in {offer.region}" if offer.region else "nobody says where"
        return Hindrance(2, 403, "region", f"it computes {where}, not in {', '.join(settings.regions)}")
    return None


def _incapable(offer: Offer, wanted: Wanted) -> Hindrance | None:
    if offer.price(wanted.now).rates.output is None and not isinstance(wanted.request, EmbeddingRequest):
        return Hindrance(3, 400, "unsupported", "it embeds, and answers nothing")
    if missing := offer.missing(wanted.request):
        return Hindrance(3, 400, "unsupported", f"it cannot take {', '.join(missing)}")
    asked = wanted.asked_tokens or 0
    if offer.max_output is not None and asked > offer.max_output:
        return Hindrance(4, 400, "unsupported", f"its answers have at most {offer.max_output:,} tokens, not {asked:,}")
    needed = wanted.size.prompt + asked
    if offer.context is not None and needed > offer.context:
        words = f"about {needed:,} tokens are more than its context of {offer.context:,}"
        return Hindrance(5, 400, "context_length_exceeded", words)
    return None


def _too_dear(offer: Offer, wanted: Wanted) -> Hindrance | None:
    if wanted.budget_left is None:
        return None
    most = most_cost(offer.price(wanted.now), bounded(offer, wanted))
    if most <= wanted.budget_left:
        return None
    words = f"it may cost {most / NANO:.6f}, and {wanted.budget_left / NANO:.6f} of the budget is left"
    return Hindrance(6, 402, "insufficient_quota", words)
