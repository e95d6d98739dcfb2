"""The page of administrators, for a browser: no JavaScript, nothing from elsewhere, every text escaped.

Who opens it shows an administrator's key once and gets a cookie; every act carries the session's token besides.
"""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from inhouse.api.connections import is_loopback
from inhouse.api.errors import ApiError
from inhouse.api.middleware import given_keys
from inhouse.common.page import render_page
from inhouse.gateway.contracts.cut import lift_cut, order_cut
from inhouse.gateway.contracts.terms import Cut
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.outside.overview import overview
from inhouse.gateway.outside.sessions import COOKIE, SECONDS, Sessions
from inhouse.gateway.store.secret import read_secret
from inhouse.gateway.types import Caller

PATH = "/admin"
_ROOM = "inhouse.gateway.outside"
_MOST = 8192  # bytes of a form
_REFRESH = 10  # seconds
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with none at all browsers would not say the origin of a form either
    "cross-origin-opener-policy": "same-origin",
}


class Visit(NamedTuple):
    """Somebody with an administrator's key; `cookie` is "" where the key came in a header."""

    caller: Caller
    cookie: str


Handler = Callable[[Request, Visit], Awaitable[Response]]


class AdminPage:
    """`routes()` ask for the key themselves, because a browser shows it otherwise than a client: `paths` name them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sessions = Sessions(gateway.keys, read_secret(gateway.config.secret_file), gateway.now)
        self._is_plain = is_loopback(gateway.config.server.host) and not gateway.config.server.tls_certificate

    def routes(self) -> list[Route]:
        return [
            Route(PATH, self._for_administrators(self._show), methods=["GET"]),
            Route(f"{PATH}/login", self._log_in, methods=["POST"]),
            Route(f"{PATH}/logout", self._for_administrators(self._log_out), methods=["POST"]),
            Route(f"{PATH}/cut", self._for_administrators(self._cut), methods=["POST"]),
            Route(f"{PATH}/lift", self._for_administrators(self._lift), methods=["POST"]),
        ]

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(route.path for route in self.routes())

    def _for_administrators(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Nobody else gets to it; a form only with the session's token."""

        async def checked(request: Request) -> Response:
            cookie = request.cookies.get(COOKIE, "")
            caller = await self._sessions.caller(cookie) if cookie else None
            if caller is None:
                cookie, caller = "", await self._of_key(next(filter(None, given_keys(request.headers)), ""))
            if caller is None:
                return await _html("login.html.jinja", 401)
            _check_admin(caller)
            if request.method == "POST":
                _check_origin(request.headers)
                if not cookie or not self._sessions.is_token(cookie, (await self._form(request)).get("token", "")):
                    raise ApiError(403, "This form is not of this session: open the page again.", code="wrong_token")
            return await handler(request, Visit(caller, cookie))

        return checked

    async def _show(self, request: Request, visit: Visit) -> Response:
        refreshes = "every" in request.query_params
        seen = await overview(self._gateway)
        token = self._sessions.token(visit.cookie) if visit.cookie else ""
        response = await _html(
            "admin.html.jinja", 200, **seen, who=visit.caller.key_id, token=token, refreshes=refreshes, seconds=_REFRESH
        )
        if refreshes:
            response.headers["refresh"] = str(_REFRESH)
        return response

    async def _log_in(self, request: Request) -> Response:
        _check_origin(request.headers)
        form = await self._form(request)
        key = form.get("key", "").strip() or next(filter(None, given_keys(request.headers)), "")
        caller = await self._of_key(key)
        if caller is None:
            return await _html("login.html.jinja", 401, is_wrong=bool(key))
        _check_admin(caller)
        response = RedirectResponse(PATH, 303, _HEADERS)
        response.set_cookie(
            COOKIE, self._sessions.begin(key), max_age=SECONDS, path=PATH, secure=not self._is_plain, httponly=True,
            samesite="strict",
        )  # fmt: skip
        return response

    async def _log_out(self, request: Request, visit: Visit) -> Response:
        response = RedirectResponse(PATH, 303, _HEADERS)
        response.delete_cookie(COOKIE, path=PATH, secure=not self._is_plain, httponly=True, samesite="strict")
        return response

    async def _cut(self, request: Request, visit: Visit) -> Response:
        form, gateway, now = await self._form(request), self._gateway, self._gateway.now()
        provider, reason = form.get("provider", ""), form.get("reason", "")[:200]
        if provider not in gateway.config.providers():
            raise ApiError(404, f"There is no provider '{provider[:100]}'.", code="not_found")
        grace = gateway.config.providers()[provider].terms.grace
        return await self._done(
            order_cut(gateway.audit, Cut(provider, now, None, grace, visit.caller.key_id, reason, now))
        )

    async def _lift(self, request: Request, visit: Visit) -> Response:
        provider = (await self._form(request)).get("provider", "")
        return await self._done(lift_cut(self._gateway.audit, provider, visit.caller.key_id))

    async def _done(self, act: Awaitable[None]) -> Response:
        try:
            await act
        except ValueError as error:
            raise ApiError(400, f"{str(error)[:1].upper()}{str(error)[1:]}.", code="invalid_value") from error
        await self._gateway.cuts.look()
        return RedirectResponse(PATH, 303, _HEADERS)

    async def _of_key(self, key: str) -> Caller | None:
        return await self._gateway.keys.find(key) if key else None

    async def _form(self, request: Request) -> dict[str, str]:
        """The last of each field; read once. What is no form has none."""
        if not hasattr(request.state, "form"):
            request.state.form = {}
            if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
                raw = await _read(request, self._gateway.config.server.read_timeout)
                fields = parse_qs(raw.decode("utf-8", "replace"), max_num_fields=20)
                request.state.form = {name: values[-1] for name, values in fields.items()}
        form: dict[str, str] = request.state.form
        return form


async def _read(request: Request, seconds: float) -> bytes:
    raw = b""
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > _MOST:
                    raise ApiError(413, f"A form has at most {_MOST} bytes.", headers={"connection": "close"})
    except TimeoutError:
        raise ApiError(408, "The form did not arrive in time.", headers={"connection": "close"}) from None
    return raw


async def _html(template: str, status: int, **values: object) -> HTMLResponse:
    """With a policy that lets the browser use what is in the page and nothing else: its style by its digest."""
    text = await run_in_threadpool(lambda: render_page(_ROOM, template, **values))
    styles = (base64.b64encode(sha256(style.encode()).digest()).decode() for style in _STYLE.findall(text))
    allowed = " ".join(f"'sha256-{digest}'" for digest in styles)
    policy = (
        f"default-src 'none'; style-src {allowed}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "sandbox allow-forms allow-same-origin"
    )
    return HTMLResponse(text, status, _HEADERS | {"content-security-policy": policy})


_STYLE = re.compile(r"<style>(.*?)</style>", re.S)


def _check_admin(caller: Caller) -> None:
    if not caller.is_admin:
        raise ApiError(403, "This needs an administrator's key.", code="admin_only")


def _check_origin(headers: Headers) -> None:
    """A form of another page is refused, on servers too that take any name."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise ApiError(403, "Pages of another origin may not send this form.", code="wrong_origin")
