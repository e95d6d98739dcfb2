"""What an administrator can say by a verb and over HTTP is the same, and what only one of them has is named here."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.gateway.gateways import config_of, opened, provider

from inhouse.api.wire.chat import ChatRequest
from inhouse.cli.gateway.app import gateway as gateway_verbs
from inhouse.gateway.gateway import Gateway
from inhouse.gateway.routes.admin import Admin, NewCut, NewKey, NewSecret

STORE = "config"  # which store: every verb has it, a route has its own
# a verb: its method and path, its body, and what its options are called there; None: nothing of a store's
ROUTES: dict[str, tuple[str, Any, dict[str, str | None]]] = {
    "keys create": ("post /admin/keys", NewKey, {"name": "id", "admin": "is_admin"}),
    "keys list": ("get /admin/keys", None, {}),
    "keys revoke": ("delete /admin/keys/{id}", None, {"name": "{id}"}),
    "keys rotate": ("post /admin/keys/{id}/rotate", NewSecret, {"name": "{id}"}),
    # what would happen is computed from weeks of calls: only a verb does it
    "cut": ("post /admin/cuts", NewCut, {"rehearse": None, "lift": "delete /admin/cuts/{id}"}),
    # a table on a terminal, a file beside it
    "spend": ("get /admin/spend/{by}", None, {"by": "{by}", "since": "?since", "until": "?until", "export": None}),
    "route": ("post /admin/route", ChatRequest, {"prompt": "messages", "as_json": None}),
}
ONLY_VERBS = {"init", "check", "serve"}  # before a gateway runs
ONLY_VERBS |= {"backtest", "reconcile", "audit", "drill"}  # they read files or much of the store; the page has the rest
ONLY_ROUTES = {"get /admin/calls", "get /admin/cuts"}  # of the running process; a cut's verb says it all
ONLY_ROUTES |= {"get /admin/content/{id}", "delete /admin/keys/{id}/content"}


def verbs() -> dict[str, set[str]]:
    """Each with its parameters."""
    found: dict[str, set[str]] = {}
    group: Any = typer.main.get_command(gateway_verbs)
    for name, command in group.commands.items():
        for below, each in getattr(command, "commands", {"": command}).items():
            found[f"{name} {below}".strip()] = {parameter.name for parameter in each.params} - {STORE, "help"}
    return found


def test_every_verb_and_every_route_has_its_like(tmp_path: Path) -> None:
    async def routes() -> dict[str, Any]:
        async with opened(config_of(tmp_path, provider("http://127.0.0.1:9"))) as here:
            gateway: Gateway = here.gateway
            operations = [each.operation for each in Admin(gateway).all()]
            return {f"{each.method} {each.path}": each for each in operations}

    operations = asyncio.run(routes())
    assert verbs().keys() == ROUTES.keys() | ONLY_VERBS
    lifted = {"delete /admin/cuts/{id}"}
    assert operations.keys() == {route for route, _, _ in ROUTES.values()} | lifted | ONLY_ROUTES
    for verb, (route, body, names) in ROUTES.items():
        assert operations[route].body is body, verb
        said = {names.get(option, option) for option in verbs()[verb]}
        in_body = {name for name in said if name and name.isidentifier()}
        if body is ChatRequest:  # a whole request; the verb says two things of it
            assert in_body == {"model", "messages"} and in_body <= body.model_fields.keys()
        else:
            assert in_body == (set() if body is None else body.model_fields.keys()), verb
        for name in filter(None, said - in_body):
            assert name in operations or name in route or name[1:] in operations[route].summary, (verb, name)


@pytest.mark.parametrize("body", [{}, {"provider": "acme", "event": "merger"}])
def test_a_cut_is_of_a_provider_or_of_an_event(tmp_path: Path, body: dict[str, str]) -> None:
    async def main() -> None:
        async with opened(config_of(tmp_path, provider("http://127.0.0.1:9"))) as here:
            assert (await here.post("/admin/cuts", body, key="admin")).status_code == 400

    asyncio.run(main())


def test_groups_a_grace_an_event_a_lift_and_a_time_over_http(tmp_path: Path) -> None:
    terms = {"terms": {"ends_on": "merger"}}

    async def main() -> None:
        team = [{"name": "docs", "groups": ["pilots"]}]
        config = config_of(tmp_path, provider("http://127.0.0.1:9", **terms), team=team)
        async with opened(config) as here:
            admin = {"authorization": f"Bearer {here.keys['admin']}"}
            made = await here.post("/admin/keys", {"id": "docs", "groups": ["friends"]}, key="admin")
            assert made.status_code == 200, made.text
            (key,) = [each.caller for each in await here.gateway.keys.all() if each.caller.key_id == "docs"]
            assert (key.team, key.groups) == ("docs", ("friends", "pilots"))

            old, new = made.json()["key"], (await here.post("/admin/keys/docs/rotate", {"grace": 60}, key="admin"))
            assert await here.gateway.keys.find(old) == await here.gateway.keys.find(new.json()["key"]) == key
            bare = await here.client.post("/admin/keys/docs/rotate", headers=admin)  # as before there was a body
            assert bare.status_code == 200 and await here.gateway.keys.find(new.json()["key"]) is None
            typed = admin | {"content-type": "application/json"}  # as some clients send it, with nothing behind it
            assert (await here.client.post("/admin/keys/docs/rotate", headers=typed)).status_code == 200
            untyped = await here.client.post("/admin/keys/docs/rotate", headers=admin, content=b'{"grace": 60}')
            assert untyped.status_code == 415  # never without the grace that was asked for
            described = (await here.client.get("/openapi.json", headers=admin)).json()["paths"]
            asked = described["/admin/keys/{id}/rotate"]["post"]["requestBody"]
            assert not asked["required"] and described["/admin/cuts"]["post"]["requestBody"]["required"]

            assert (await here.client.delete("/admin/cuts/acme", headers=admin)).status_code == 404
            cut = await here.post("/admin/cuts", {"event": "merger"}, key="admin")
            assert cut.json()["providers"] == ["acme"] == [*here.gateway.cuts.cuts]
            assert (await here.post("/admin/cuts", {"event": "flood"}, key="admin")).status_code == 400
            assert (await here.client.delete("/admin/cuts/acme", headers=admin)).json()["lifted"]
            assert here.gateway.cuts.cuts == {}

            for span, status in (("since=2026-01-01&until=2026-02-01", 200), ("since=soon", 400)):
                assert (await here.client.get(f"/admin/spend/team?{span}", headers=admin)).status_code == status

    asyncio.run(main())
