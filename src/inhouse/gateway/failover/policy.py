"""What an error means for the call: the same again, somebody else, a longer context, or the client's answer."""

from enum import Enum

from inhouse.providers.errors import (
    ContentFiltered,
    ContextTooLong,
    Disconnected,
    MalformedAnswer,
    ProviderError,
    RateLimited,
    RequestRefused,
    ServerFault,
)


class Step(Enum):
    """What comes next for a call whose target failed."""

    AGAIN = "the same target a little later, then the next"
    NEXT = "the next target; the same again only where nobody else is left"
    ELSEWHERE = "the next target; this one no more"
    LONGER = "a target with a longer context, nobody else"
    GIVE = "the error is the answer"


def step_after(error: ProviderError, has_begun: bool, is_first: bool) -> Step:
    """`has_begun`: something of the answer had come; `is_first`: no other target was asked before.

    A limit that passed is never tried twice on one route: who was silent once would cost the same wait again. What
    refuses a request for its content has answered it. A request that is wrong is wrong everywhere, but where the
    first target merely failed, another's dislike of it is no news for the client.
    """
    if isinstance(error, ContentFiltered):
        return Step.GIVE
    if isinstance(error, ContextTooLong):
        return Step.LONGER
    if isinstance(error, RequestRefused) and not _is_providers(error.status):
        return Step.GIVE if is_first else Step.ELSEWHERE
    if isinstance(error, RateLimited | ServerFault | Disconnected) and not has_begun:
        return Step.AGAIN
    if isinstance(error, ServerFault | Disconnected | MalformedAnswer | RateLimited):
        return Step.NEXT
    # it has moved or does not know the model; silence, a key that does not count, a part that its dialect cannot say
    return Step.ELSEWHERE


def _is_providers(status: int | None) -> bool:
    """Whether what is wrong is no request, but its address or name there."""
    return status is not None and (status == 404 or 300 <= status < 400)
