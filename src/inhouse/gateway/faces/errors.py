"""What goes wrong inside, as what a client is told: a status and a sentence in the shape of the face that it asked."""

import math

from starlette.requests import Request
from starlette.responses import Response

from inhouse.api.errors import HANDLERS, ApiError
from inhouse.gateway.store.database import StoreDown
from inhouse.gateway.types import CallRefused
from inhouse.providers.errors import ProviderError

# any other is 502: also where a provider refuses our key, which is no fault of the client, whose key is another
_STATUS = {
    "not expressible": 400, "request": 400, "context length": 400, "content filter": 400, "rate limit": 429,
    "timeout": 504,
}  # fmt: skip
_CODES = {
    "not expressible": "unsupported_parameter", "context length": "context_length_exceeded",
    "content filter": "content_filter", "rate limit": "rate_limit_exceeded",
}  # fmt: skip


def as_api_error(error: CallRefused | ProviderError) -> ApiError:
    headers = {} if error.retry_after is None else {"retry-after": str(math.ceil(error.retry_after))}
    if isinstance(error, CallRefused):
        return ApiError(error.status, error.message, code=error.code, headers=headers)
    code = _CODES.get(error.kind, "provider_" + error.kind.replace(" ", "_"))
    message = str(error)
    return ApiError(_STATUS.get(error.kind, 502), message[:1].upper() + message[1:], code=code, headers=headers)


async def _answer(request: Request, error: Exception) -> Response:
    assert isinstance(error, CallRefused | ProviderError)
    return as_api_error(error).response(request.scope)


async def _store_is_down(request: Request, error: Exception) -> Response:
    """Nobody is let in whose call could not be written."""
    refusal = ApiError(503, "The gateway's store does not answer; try again later.", headers={"retry-after": "5"})
    return refusal.response(request.scope)


ALL_HANDLERS = HANDLERS | {CallRefused: _answer, ProviderError: _answer, StoreDown: _store_is_down}
