"""Errors in the shape of the API that was asked: OpenAI's {"error": {"message", "type", "param", "code"}}, or
Anthropic's {"type": "error", "error": {"type", "message"}}."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

MAX_MESSAGE = 500  # characters: a message may quote what a stranger sent


class ApiError(Exception):
    """A refusal that a client can act on: an HTTP status, one sentence, and the parameter at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = status, message, param, code, headers

    def renamed(self, names: Mapping[str, str]) -> "ApiError":
        """The same about a parameter that another API calls otherwise."""
        old = new = self.param
        for ours, theirs in names.items():  # the whole of a name, or its end
            if old is not None and (old == ours or old.endswith(f".{ours}")):
                new = old.removesuffix(ours) + theirs
        message = self.message.replace(f"'{old}'", f"'{new}'")
        return ApiError(self.status, message, param=new, code=self.code, headers=self.headers)

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        message = self.message.encode("utf-8", "replace").decode()[:MAX_MESSAGE]
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def anthropic_body(self) -> dict[str, Any]:
        """The same where there is no place for the parameter but the message."""
        message = self.body()["error"]["message"]
        if self.param is not None and self.param not in message:
            message = f"{self.param}: {message}"[:MAX_MESSAGE]
        other = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_TYPES.get(self.status, other)
        return {"type": "error", "error": {"type": kind, "message": message}}

    def response(self, scope: Scope | None = None) -> JSONResponse:
        """For whoever asked."""
        body = self.anthropic_body() if scope is not None and is_anthropics(scope) else self.body()
        return JSONResponse(body, self.status, self.headers)


def is_anthropics(scope: Scope) -> bool:
    """Whether a request speaks Anthropic's API: by its path, or by the header that its clients send everywhere."""
    return bool(scope["path"].startswith(ANTHROPIC_PATH)) or "anthropic-version" in Headers(scope=scope)


ANTHROPIC_PATH = "/v1/messages"  # and what is below it
_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = _TYPES | {
    403: "permission_error", 404: "not_found_error", 413: "request_too_large", 503: "overloaded_error",
}  # fmt: skip
_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "unsupported": "unsupported_parameter",
}


def from_validation(error: ValidationError) -> ApiError:
    """400 for the first thing wrong with a request, naming the parameter."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, param = first["type"], _path(first["loc"])
    if kind == "json_invalid":
        return ApiError(400, f"The request's body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
    if not param:
        return ApiError(400, "The request's body must be a JSON object.")
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    if kind == "missing":
        message = f"Missing required parameter: '{param}'."
    elif kind == "extra_forbidden":
        message = f"Unknown parameter: '{param}'."
    else:
        message = f"Invalid value for '{param}': {first['msg']}."
    return ApiError(400, message, param=param, code=code)


def _path(loc: tuple[int | str, ...]) -> str:
    """("messages", 0, "role") -> "messages[0].role"."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")[:100].encode("utf-8", "replace").decode()


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response(request.scope)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path (404), wrong method (405)."""
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}."
    headers = {"allow": _allowed(request)} if error.status_code == 405 else error.headers
    return ApiError(error.status_code, message, headers=headers).response(request.scope)


def _allowed(request: Request) -> str:
    """All methods of a path: Starlette names those of the first of its routes."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    methods = [route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({each for some in methods for each in some}))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nginx's status for it; it only reaches the metrics


async def _on_crash(request: Request, error: Exception) -> Response:
    """Anything unforeseen; starlette logs the traceback, the client learns nothing of the inside."""
    refusal = ApiError(500, "The server failed while it handled this request; its log says why.")
    return refusal.response(request.scope)


HANDLERS = {
    ApiError: _on_api_error,
    HTTPException: _on_http_error,
    ClientDisconnect: _on_disconnect,
    Exception: _on_crash,
}  # of an application's exceptions
