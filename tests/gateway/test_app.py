"""Every route of the gateway asks for its key, and answers in the shape of its face."""

import asyncio
from pathlib import Path

import jsonschema
from tests.gateway.gateways import Opened, config_of, opened, provider
from tests.providers.loopback import OK, USAGE, chunk, loopback, reply, stream

from inhouse.gateway.app import create_app
from inhouse.gateway.outside.page import AdminPage
from inhouse.gateway.types import Caller

OPEN = {"/health"}
OF_ANY_KEY = {"/", "/openapi.json"}  # which say the same to everybody
ELSEWHERE = "http://127.0.0.1:9"  # nobody is there


async def asked(here: Opened, method: str, path: str, key: str | None) -> int:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    filled = path.replace("{model:path}", "m").replace("{id}", "ours").replace("{by}", "team")
    body = None if method in ("GET", "DELETE") else {}
    return (await here.client.request(method, filled, json=body, headers=headers)).status_code


def test_every_route_without_with_a_wrong_and_with_another_teams_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(config_of(tmp_path, provider(ELSEWHERE))) as here:
            routes = [(method, route.path) for route in create_app(here.gateway).routes for method in route.methods]
            assert len(routes) > 15
            for method, path in routes:
                if path in OPEN:
                    assert await asked(here, method, path, None) == 200
                    continue
                assert await asked(here, method, path, None) == 401, path
                assert await asked(here, method, path, "ih-wrong") == 401, path
                expected = 200 if path in OF_ANY_KEY else 403
                assert await asked(here, method, path, here.keys["theirs"]) == expected, path
                if path.startswith("/admin"):
                    assert await asked(here, method, path, here.keys["ours"]) == 403, path
            assert await asked(here, "GET", "/nothing/here", None) == 401

    asyncio.run(main())


def test_a_key_of_another_team_asks_for_no_model_that_is_not_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(config_of(tmp_path, provider(ELSEWHERE))) as here:
            narrow = Caller("narrow", "them", models=("other",))
            here.keys["narrow"] = await here.gateway.keys.create(narrow, "test")
            said = [{"role": "user", "content": "Hi"}]
            for path, body in (
                ("/v1/chat/completions", {"messages": said}),
                ("/v1/messages", {"messages": said, "max_tokens": 5}),
                ("/v1/responses", {"input": "Hi"}),
                ("/v1/completions", {"prompt": "Hi"}),
                ("/v1/embeddings", {"input": "Hi"}),
            ):
                answer = await here.post(path, body | {"model": "m"}, key="narrow")
                assert answer.status_code == 403, (path, answer.text)
            models = await here.client.get("/v1/models", headers={"x-api-key": here.keys["narrow"]})
            assert models.json()["data"] == []

    asyncio.run(main())


def test_vectors_of_a_provider_that_is_not_open_are_refused_and_nothing_is_booked(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(config_of(tmp_path, provider(ELSEWHERE))) as here:
            await here.gateway.pool.close("acme")
            answer = await here.post("/v1/embeddings", {"model": "m", "input": "Hi"})
            assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_provider"
            assert (await here.gateway.db.read("SELECT COUNT(*) AS n FROM calls"))[0]["n"] == 0

    asyncio.run(main())


def test_administration(tmp_path: Path) -> None:
    async def main() -> None:
        async with loopback(reply(200, OK)) as there, opened(config_of(tmp_path, provider(there.url))) as here:
            made = await here.post("/admin/keys", {"id": "docs", "team": "docs", "budget": "5/month"}, key="admin")
            assert made.status_code == 200, made.text
            here.keys["docs"] = made.json()["key"]
            again = await here.post("/admin/keys", {"id": "docs", "team": "docs"}, key="admin")
            assert again.status_code == 400 and "docs" in again.json()["error"]["message"]
            wrong = await here.post("/admin/keys", {"id": "x", "team": "docs", "budget": "lots"}, key="admin")
            assert wrong.status_code == 400 and "lots" in wrong.json()["error"]["message"]
            seen = await here.client.get("/v1/models", headers={"x-api-key": here.keys["docs"]})
            assert [card["id"] for card in seen.json()["data"]] == ["auto", "m"]

            said = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            decision = await here.post("/admin/route", said, key="admin")
            assert decision.json()["order"] == [["acme", "m", "m-up"]] and not there.asked
            picture = {"type": "image_url", "image_url": {"url": "https://a.example/x.png"}}
            seeing = said | {"messages": [{"role": "user", "content": [picture]}]}
            assert (await here.post("/admin/route", seeing, key="admin")).status_code == 200  # as the call itself

            cut = await here.post("/admin/cuts", {"provider": "acme", "reason": "it is over"}, key="admin")
            assert cut.status_code == 200, cut.text
            stands = (await here.client.get("/admin/cuts", headers={"x-api-key": here.keys["admin"]})).json()["cuts"]
            assert stands[0]["grace"] == here.gateway.config.providers()["acme"].terms.grace
            refused = await here.post("/v1/chat/completions", said, key="docs")
            assert refused.status_code in (403, 503) and "it is over" in refused.json()["error"]["message"]
            acts = [entry.body["what"] for entry in await here.gateway.audit.entries()]
            assert acts[-2:] == ["key created", "cut"]

            headers = {"authorization": f"Bearer {here.keys['admin']}"}
            assert (await here.client.delete("/admin/keys/docs", headers=headers)).status_code == 200
            assert (await here.client.delete("/admin/keys/docs", headers=headers)).status_code == 404
            assert (await here.client.get("/v1/models", headers={"x-api-key": here.keys["docs"]})).status_code == 401

    asyncio.run(main())


def test_the_document_names_every_route(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(config_of(tmp_path, provider(ELSEWHERE))) as here:
            key = {"x-api-key": here.keys["ours"]}
            document = (await here.client.get("/openapi.json", headers=key)).json()
            paths = {route.path.replace(":path", "") for route in create_app(here.gateway).routes}
            assert set(document["paths"]) == paths - {*AdminPage(here.gateway).paths}  # which is for people
            schema = document["components"]["schemas"]["NewKey"] | {"components": document["components"]}
            jsonschema.Draft202012Validator.check_schema(schema)

    asyncio.run(main())


def test_a_wrong_method_is_told_all_right_ones(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(config_of(tmp_path, provider(ELSEWHERE))) as here:
            headers = {"authorization": f"Bearer {here.keys['admin']}"}
            answer = await here.client.request("OPTIONS", "/admin/keys", headers=headers)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")

    asyncio.run(main())


def test_content_that_a_key_has_kept_is_read_and_forgotten_by_administrators_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            loopback(stream(chunk("Hello."), chunk(finish="stop"), USAGE)) as there,
            opened(config_of(tmp_path, provider(there.url))) as here,
        ):
            wanted = {"id": "docs", "team": "docs", "keep_content_days": 1}
            here.keys["docs"] = (await here.post("/admin/keys", wanted, key="admin")).json()["key"]
            said = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            calls = [(await here.post("/v1/chat/completions", said, key=key)) for key in ("docs", "ours")]
            await here.gateway.drained()
            kept, other = (f"/admin/content/{call.headers['x-inhouse-call']}" for call in calls)
            admin = {"authorization": f"Bearer {here.keys['admin']}"}
            found = (await here.client.get(kept, headers=admin)).json()
            assert found["request"]["messages"] == said["messages"]
            assert found["answer"]["choices"] == calls[0].json()["choices"]
            assert (await here.client.get(other, headers=admin)).status_code == 404  # its key does not ask for it
            assert (await here.client.get(kept, headers={"x-api-key": here.keys["docs"]})).status_code == 403
            gone = await here.client.delete("/admin/keys/docs/content", headers=admin)
            assert gone.json() == {"id": "docs", "deleted": 1}
            assert (await here.client.get(kept, headers=admin)).status_code == 404
            acts = [entry.body["what"] for entry in await here.gateway.audit.entries()]
            assert acts[-4:] == ["content read", "content read", "content deleted", "content read"]

    asyncio.run(main())
