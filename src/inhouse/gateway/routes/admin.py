"""What administrators ask over HTTP: keys, cuts, spend, decisions, calls under way. All of it in JSON."""

import json
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from inhouse.api.body import read_body
from inhouse.api.errors import ApiError
from inhouse.api.openapi import Operation
from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.fields import Request as Body
from inhouse.gateway.administration import new_caller
from inhouse.gateway.call import decide
from inhouse.gateway.config.config import GatewayConfig, Provider
from inhouse.gateway.contracts.cut import declare, lift_cut, order_cut, stored_cuts
from inhouse.gateway.contracts.instants import read_instant
from inhouse.gateway.contracts.terms import Cut
from inhouse.gateway.gateway import Call, Gateway
from inhouse.gateway.routes.endpoint import Endpoint, asked_of
from inhouse.gateway.routes.keyed import ADMIN
from inhouse.gateway.routing.explain import as_json
from inhouse.gateway.settings import QuotaSettings
from inhouse.gateway.spend.report import LATEST, spending
from inhouse.gateway.store.content import delete_content, read_content
from inhouse.gateway.store.ledger import plain
from inhouse.gateway.types import Caller


class NewKey(Body):
    """POST /admin/keys. Empty lists: all."""

    ignored: ClassVar = frozenset()
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="what the ledger calls it, for good")
    team: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="none: a team of the key's name"
    )
    models: list[str] = Field(default=[])
    tasks: list[str] = Field(default=[])
    faces: list[str] = Field(default=[])
    groups: list[str] = Field(default=[], description="of early access, beside its team's")
    is_admin: bool = False
    keep_content_days: int = Field(default=0, ge=0, le=3650)
    budget: str | None = Field(default=None, max_length=40, description="such as 50/month")
    requests_per_minute: int | None = Field(default=None, ge=1, lt=2**31, description="none: any number")
    tokens_per_minute: int | None = Field(default=None, ge=1, lt=2**31, description="none: any number")


class NewSecret(Body):
    """POST /admin/keys/{id}/rotate; a body may be missing."""

    ignored: ClassVar = frozenset()
    grace: float = Field(default=0.0, ge=0, le=86_400 * 365, description="seconds for which the old one works on")


class NewCut(Body):
    """POST /admin/cuts: of a provider, or of all whose contracts end on an event."""

    ignored: ClassVar = frozenset()
    provider: str | None = Field(default=None, max_length=200)
    event: str | None = Field(default=None, max_length=200, description="who ends on it is cut at once; nothing beside")
    at: str | None = Field(default=None, max_length=40, description="a date or a time in UTC; none: now")
    grace: float | None = Field(default=None, ge=0, le=3600, description="seconds for streams; none: the contract's")
    reason: str = Field(default="", max_length=200)


class Admin:
    """Every route needs an administrator's key; every act stands in the audit log with its name."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.limits = gateway, gateway.config.server

    def all(self) -> list[Endpoint]:
        return [
            Endpoint(ADMIN, self.keys, Operation("/admin/keys", "get", "All keys, without their secrets.")),
            Endpoint(ADMIN, self.create_key, Operation("/admin/keys", "post", "A new key, shown once.", NewKey)),
            Endpoint(ADMIN, self.rotate_key, Operation(
                "/admin/keys/{id}/rotate", "post", "A new secret for a key.", NewSecret, needs_body=False)),
            Endpoint(ADMIN, self.revoke_key, Operation("/admin/keys/{id}", "delete", "A key works no more.")),
            Endpoint(ADMIN, self.delete_content, Operation(
                "/admin/keys/{id}/content", "delete", "Forget what is stored of a key's calls.")),
            Endpoint(ADMIN, self.content, Operation(
                "/admin/content/{id}", "get", "What a call asked and was answered, where its key has it kept.")),
            Endpoint(ADMIN, self.cuts, Operation("/admin/cuts", "get", "The providers that are cut, or will be.")),
            Endpoint(ADMIN, self.cut, Operation("/admin/cuts", "post", "End a provider.", NewCut)),
            Endpoint(ADMIN, self.lift, Operation("/admin/cuts/{id}", "delete", "A provider's cut is taken back.")),
            Endpoint(ADMIN, self.spend, Operation(
                "/admin/spend/{by}", "get", "What was spent, by team, model, day; ?since= and ?until= a time in UTC.")),
            Endpoint(ADMIN, self.live, Operation("/admin/calls", "get", "The calls under way.")),
            Endpoint(ADMIN, self.route, Operation("/admin/route", "post", "Who would answer, and why.", ChatRequest)),
        ]  # fmt: skip

    async def keys(self, request: Request) -> Response:
        keys = await self.gateway.keys.all()
        said = [
            {"id": key.caller.key_id, "created": key.created, "revoked": key.revoked} | key.caller._asdict()
            for key in keys
        ]
        return JSONResponse({"keys": said})

    async def create_key(self, request: Request) -> Response:
        body = NewKey.parse(await read_body(request, self.limits))
        try:
            secret = await self.gateway.keys.create(_caller(self.gateway.config, body), _who(request))
        except ValueError as error:
            raise _refusal(error) from error
        return JSONResponse({"id": body.id, "key": secret})

    async def rotate_key(self, request: Request) -> Response:
        name, headers = plain(request.path_params["id"]), request.headers
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        body = NewSecret.parse(await read_body(request, self.limits)) if has_body else NewSecret()
        try:
            secret = await self.gateway.keys.rotate(name, _who(request), body.grace)
            return JSONResponse({"id": name, "key": secret})
        except ValueError as error:
            raise _refusal(error, 404) from error

    async def revoke_key(self, request: Request) -> Response:
        name = plain(request.path_params["id"])
        try:
            await self.gateway.keys.revoke(name, _who(request))
        except ValueError as error:
            raise _refusal(error, 404) from error
        return JSONResponse({"id": name, "revoked": True})

    async def delete_content(self, request: Request) -> Response:
        name = plain(request.path_params["id"])
        count = await delete_content(self.gateway.db, self.gateway.audit, name, _who(request))
        return JSONResponse({"id": name, "deleted": count})

    async def content(self, request: Request) -> Response:
        """That somebody looked stands in the audit log, whether there was anything or not."""
        call = plain(request.path_params["id"])
        if (kept := await read_content(self.gateway.db, self.gateway.audit, call, _who(request))) is None:
            raise ApiError(404, f"Nothing is stored of the call '{call[:100]}'.", code="not_found")
        return JSONResponse({"id": call, "request": json.loads(kept.request), "answer": json.loads(kept.answer)})

    async def cuts(self, request: Request) -> Response:
        return JSONResponse({"cuts": [cut._asdict() for cut in (await stored_cuts(self.gateway.db)).values()]})

    async def cut(self, request: Request) -> Response:
        body, now = NewCut.parse(await read_body(request, self.limits)), self.gateway.now()
        if (body.provider is None) == (body.event is None):
            raise ApiError(400, "Name a provider, or an event alone.", param="provider", code="invalid_value")
        try:
            if body.event is not None:
                return await self._declare(body.event, _who(request), now)
            provider = self._provider(body.provider or "")
            at = now if body.at is None else read_instant(body.at).timestamp()
            grace = provider.terms.grace if body.grace is None else body.grace
            reason = plain(body.reason)
            await order_cut(self.gateway.audit, Cut(provider.name, at, None, grace, _who(request), reason, now))
        except ValueError as error:
            raise _refusal(error) from error
        await self.gateway.cuts.look()
        return JSONResponse({"provider": provider.name, "at": at, "clear_variable": provider.key_env})

    async def _declare(self, event: str, by: str, now: float) -> Response:
        ended = await declare(self.gateway.audit, self.gateway.config.terms(), event, by, now)
        await self.gateway.cuts.look()
        return JSONResponse({"event": event, "providers": ended, "at": now})

    async def lift(self, request: Request) -> Response:
        provider = self._provider(request.path_params["id"])
        try:
            await lift_cut(self.gateway.audit, provider.name, _who(request))
        except ValueError as error:
            raise _refusal(error, 404) from error
        await self.gateway.cuts.look()
        return JSONResponse({"provider": provider.name, "lifted": True})

    def _provider(self, name: str) -> Provider:
        if (provider := self.gateway.config.providers().get(name)) is None:
            raise ApiError(404, f"There is no provider '{name[:100]}'.", param="provider", code="not_found")
        return provider

    async def spend(self, request: Request) -> Response:
        by, asked = request.path_params["by"].split(","), request.query_params
        try:
            span = [read_instant(asked[name]).timestamp() if name in asked else None for name in ("since", "until")]
            sums = await spending(self.gateway.db, by, span[0] or 0.0, LATEST if span[1] is None else span[1])
        except ValueError as error:
            raise _refusal(error) from error
        return JSONResponse({"currency": self.gateway.config.currency, "spend": [each._asdict() for each in sums]})

    async def live(self, request: Request) -> Response:
        return JSONResponse({"calls": [_shown(call) for call in self.gateway.live.values()]})

    async def route(self, request: Request) -> Response:
        """Calls nobody: whoever asks sees what the gateway would do with this request."""
        raw = await read_body(request, self.limits)
        asked = asked_of("chat", ChatRequest.parse(raw, images=True), request, raw)
        decision = await decide(self.gateway, request.scope["caller"], asked)
        return JSONResponse(as_json(decision))


def _caller(config: GatewayConfig, body: NewKey) -> Caller:
    quota = QuotaSettings(requests_per_minute=body.requests_per_minute, tokens_per_minute=body.tokens_per_minute)
    return new_caller(
        config, body.id, team=body.team, budget=body.budget, models=tuple(body.models), tasks=tuple(body.tasks),
        faces=tuple(body.faces), groups=tuple(body.groups), keep_content_days=body.keep_content_days,
        is_admin=body.is_admin, quota=quota,
    )  # fmt: skip


def _who(request: Request) -> str:
    """Who acts, for the audit log."""
    caller: Caller = request.scope["caller"]
    return caller.key_id


def _refusal(error: ValueError, status: int = 400) -> ApiError:
    said = str(error).removeprefix("--")  # of a verb's option, which is a field here
    return ApiError(status, f"{said[:1].upper()}{said[1:]}.", code="not_found" if status == 404 else "invalid_value")


def _shown(call: Call) -> dict[str, Any]:
    """Nothing of what was asked or said."""
    return {
        "id": call.id, "key": call.caller.key_id, "team": call.caller.team, "face": call.asked.face,
        "asked": call.asked.request.model, "task": call.decision.task, "started": call.started,
        "attempts": [[each.target.provider, each.target.model, each.outcome] for each in call.attempts],
    }  # fmt: skip
