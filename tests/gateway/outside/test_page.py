"""The page of administrators: who gets to it, what it shows, and what a browser is told about it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from tests.gateway.gateways import Opened, config_of, opened, provider
from tests.page import fetched
from tests.providers.loopback import HANG, USAGE, chunk, loopback, stream

from inhouse.gateway.outside.sessions import COOKIE, SECONDS, Sessions
from inhouse.gateway.routing.evidence import Evidence, Finding
from inhouse.gateway.routing.settings import WeightSettings
from inhouse.gateway.types import Estimate

CHAT = {"model": "auto:math", "messages": [{"role": "user", "content": "A secret question"}]}
FINDINGS = [
    Finding("math", "m", "evaluations", Estimate(0.8, 0.7, 0.9, 200), "<b>scores</b>.jsonl"),
    Finding("math", "<script>alert(1)</script>", "votes", Estimate(0.6, 0.4, 0.8, 20), "everybody"),
]


class Page(NamedTuple):
    here: Opened
    http: httpx.AsyncClient  # without a key

    async def sign_in(self, key: str = "admin") -> httpx.Response:
        return await self.http.post("/admin/login", data={"key": self.here.keys[key]})

    async def token(self) -> str:
        found = re.search(r'name="token" value="(\w+)"', (await self.http.get("/admin")).text)
        assert found
        return found[1]


@asynccontextmanager
async def page(folder: Path, *answers: Any, **config: Any) -> AsyncIterator[Page]:
    answers = answers or (stream(chunk("Hi"), chunk(finish="stop"), USAGE),)
    async with loopback(*answers) as there, opened(config_of(folder, provider(there.url), **config)) as here:
        here.gateway.router.evidence = Evidence(FINDINGS, WeightSettings())
        transport = here.client._transport
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Page(here, http)


def test_only_who_shows_an_administrators_key_gets_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with page(tmp_path) as at:
            closed = await at.http.get("/admin")
            assert closed.status_code == 401 and 'type="password"' in closed.text and "acme" not in closed.text
            assert (await at.http.post("/admin/login", data={"key": "ih-wrong"})).status_code == 401
            assert (await at.sign_in("ours")).status_code == 403 and not at.http.cookies
            entered = await at.sign_in()
            assert entered.status_code == 303 and entered.headers["location"] == "/admin"
            cookie = entered.headers["set-cookie"].lower()
            assert all(word in cookie for word in ("httponly", "samesite=strict", "path=/admin"))
            assert at.here.keys["admin"] not in str(entered.headers)
            shown = await at.http.get("/admin")
            assert shown.status_code == 200 and "acme" in shown.text

            wrong = await at.http.post("/admin/logout", data={"token": "a" * 64})
            assert wrong.status_code == 403 and (await at.http.get("/admin")).status_code == 200
            assert (await at.http.post("/admin/cut", data={"provider": "acme"})).status_code == 403
            foreign = {"origin": "https://evil.example"}
            token = await at.token()
            assert (await at.http.post("/admin/logout", data={"token": token}, headers=foreign)).status_code == 403
            assert (await at.http.post("/admin/logout", data={"token": token})).status_code == 303
            assert (await at.http.get("/admin")).status_code == 401
            assert (await at.http.get("/admin/keys", cookies={COOKIE: "x"})).status_code == 401  # keys alone open it

    asyncio.run(main())


def test_a_session_ends_with_its_time_and_with_its_key(tmp_path: Path) -> None:
    async def main() -> None:
        async with page(tmp_path) as at:
            keys, now = at.here.gateway.keys, [1000.0]
            sessions = Sessions(keys, b"s" * 32, lambda: now[0])
            cookie = sessions.begin(at.here.keys["admin"])
            caller = await sessions.caller(cookie)
            assert caller is not None and caller.key_id == "root"
            digest, ends, signature = cookie.split(".")
            for forged in ("", "a.b", f"{digest}.9999999999.{signature}", f"{digest}.{ends}.{signature[:-1]}é"):
                assert await sessions.caller(forged) is None
            assert await Sessions(keys, b"t" * 32).caller(cookie) is None
            assert sessions.is_token(cookie, sessions.token(cookie)) and not sessions.is_token(cookie, "é")
            await keys.rotate("root", "test")
            assert await sessions.caller(cookie) is None
            late = sessions.begin(at.here.keys["ours"])
            now[0] += SECONDS + 1
            assert await sessions.caller(late) is None

    asyncio.run(main())


def test_it_shows_how_things_are_and_nothing_that_was_asked(tmp_path: Path) -> None:
    async def main() -> None:
        hangs = stream(chunk("Hi"), HANG, done=False)
        answers = (stream(chunk("Hi"), chunk(finish="stop"), USAGE), hangs)
        budget = [{"amount": "5/month"}]
        async with page(tmp_path, *answers, budget=budget) as at:
            await at.sign_in()
            answer = await at.here.post("/v1/chat/completions", CHAT)
            assert answer.status_code == 200
            await at.here.gateway.drained()
            under_way = asyncio.ensure_future(at.here.post("/v1/chat/completions", CHAT | {"stream": True}))
            while not any(call.attempts for call in at.here.gateway.live.values()):
                await asyncio.sleep(0.01)
            shown = await at.http.get("/admin?every=10")
            under_way.cancel()
            (live,) = at.here.gateway.live
            text = shown.text
            for word in (live, "math", "0.800", "0.700", "all calls", "5.00 a month", "key created", "100.0%"):
                assert word in text, word
            assert "secret question" not in text and "<script" not in text and "<b>scores" not in text
            assert {*fetched(text)} <= {"/admin", "/admin?every=10", "/admin/logout", "/admin/cut"}
            assert shown.headers["refresh"] == "10" and shown.headers["cache-control"] == "no-store"
            policy = shown.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "sha256-" in policy
            assert " style=" not in text  # which the policy would not let be

    asyncio.run(main())


def test_a_provider_is_cut_and_taken_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with page(tmp_path) as at:
            await at.sign_in()
            token = await at.token()
            missing = await at.http.post("/admin/cut", data={"token": token, "provider": "nobody", "reason": "x"})
            assert missing.status_code == 404
            said = {"token": token, "provider": "acme", "reason": "over & out"}
            assert (await at.http.post("/admin/cut", data=said)).status_code == 303
            text = (await at.http.get("/admin")).text
            assert "over &amp; out" in text and "Lift the cut" in text and "0 of 1" in text
            assert (await at.here.post("/v1/chat/completions", CHAT)).status_code == 403
            assert (await at.http.post("/admin/lift", data=said)).status_code == 303
            assert (await at.here.post("/v1/chat/completions", CHAT)).status_code == 200
            acts = [(entry.body["what"], entry.body["by"]) for entry in await at.here.gateway.audit.entries()]
            assert ("cut", "root") in acts
            large = await at.http.post("/admin/cut", data={"token": token, "reason": "a" * 10_000})
            assert large.status_code == 413

    asyncio.run(main())
