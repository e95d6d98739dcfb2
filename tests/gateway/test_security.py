"""The classes of vulnerability that gateways had in 2024 to 2026, each tried over HTTP against the application: a key
looked up by what a client made up, providers' keys sent where a client says, addresses that a client has fetched,
management without a key, pages of strangers, keys and texts in logs, what is too large or too slow, one tenant's cache
read by another, prices that are none."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tests.gateway.gateways import Opened, config_of, opened, opened_in_house, provider, served
from tests.providers.loopback import OK, USAGE, Asked, Loopback, chunk, loopback, reply, stream

import inhouse
from inhouse.gateway.config.read import read_config

SECRET = "sk-the-providers-own-key-4711"  # that of the provider
TEXT = "wherefore-art-thou"  # what a client says
SAID = [{"role": "user", "content": TEXT}]
CHAT = {"model": "m", "messages": SAID}
ANSWER = stream(chunk("Hi"), chunk(finish="stop"), USAGE)
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": "m", "prompt": TEXT},
    "/v1/responses": {"model": "m", "input": TEXT, "store": False},
    "/v1/messages": {"model": "m", "messages": SAID, "max_tokens": 9},
    "/v1/embeddings": {"model": "m", "input": TEXT},
}


class Setting(NamedTuple):
    """A gateway over HTTP, its provider, and a server that nobody should ever ask."""

    here: Opened
    url: str
    http: httpx.AsyncClient
    there: Loopback
    thief: Loopback

    def headers(self, key: str = "ours") -> dict[str, str]:
        return {"authorization": f"Bearer {self.here.keys[key]}"}

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self.headers() | headers)


def attacked(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Setting], Awaitable[None]],
    answer: Callable[[Asked], Any] = lambda asked: ANSWER,
    **server: Any,
) -> None:
    monkeypatch.setenv("ACME_KEY", SECRET)

    async def main() -> None:
        async with loopback(answer=answer) as there, loopback(reply(200, OK)) as thief:
            config = config_of(folder, provider(there.url, key_env="ACME_KEY"), server=server)
            async with (
                opened(config) as here,
                served(here.gateway) as url,
                httpx.AsyncClient(base_url=url, timeout=20) as http,
            ):
                await work(Setting(here, url, http, there, thief))
            assert not thief.asked

    asyncio.run(main())


async def raw(url: str, *parts: bytes | float) -> bytes:
    """What a client gets that sends these bytes (and waits between them)."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def test_no_text_in_the_place_of_a_key_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(at: Setting) -> None:
        tries = ["' OR '1'='1", "x' UNION SELECT caller FROM keys --", "ih-%", "ih-*", "\\", "'; DROP TABLE keys; --",
                 "null", "None", "ours", "$1", "{}", "ih-\xff\xfe", "a" * 20_000]  # fmt: skip
        for text in tries:
            for name, value in (("authorization", f"Bearer {text}"), ("x-api-key", text)):
                answer = await at.http.get("/v1/models", headers=[(name.encode(), value.encode("latin-1"))])
                assert answer.status_code == 401, text
        (digest,) = [row["digest"] for row in await at.here.rows("SELECT * FROM key_secrets WHERE key_id = 'ours'")]
        for text in (digest, digest.upper(), f"ih-{digest}"):  # who has read the store
            assert (await at.http.get("/v1/models", headers={"x-api-key": text})).status_code == 401
        two = [("authorization", "Bearer wrong"), ("authorization", f"Bearer {at.here.keys['ours']}")]
        assert (await at.http.get("/v1/models", headers=two)).status_code == 401
        assert (await at.http.get("/v1/models", headers=at.headers())).status_code == 200

    attacked(tmp_path, monkeypatch, work)


def test_a_client_never_says_where_a_providers_key_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(at: Setting) -> None:
        wishes = {
            "api_base": at.thief.url, "base_url": at.thief.url, "api_key": "x", "custom_llm_provider": "openai",
            "extra_headers": {"host": at.thief.url}, "api_version": "1", "proxy": at.thief.url, "fallbacks": [CHAT],
        }  # fmt: skip
        for path, body in BODIES.items():
            for name, value in wishes.items():
                refused = await at.post(path, body | {name: value})
                assert refused.status_code == 400 and name in refused.text, (path, name)
            named = await at.post(path, body | {"model": f"openai/{at.thief.url}/m"})
            assert named.status_code == 404
        assert not at.there.asked
        host = at.thief.url.removeprefix("http://")
        wanted = {"x-api-base": at.thief.url, "x-forwarded-host": host, "x-portkey-custom-host": at.thief.url,
                  "forwarded": f"host={host}", "openai-organization": "theirs", "cookie": "a=b"}  # fmt: skip
        for kept in ({}, {"metadata": {"api_base": at.thief.url}}):
            assert (await at.post("/v1/chat/completions", CHAT | kept, **wanted)).status_code == 200
        for asked in at.there.asked:
            assert asked.headers["authorization"] == f"Bearer {SECRET}"
            assert at.here.keys["ours"] not in str(asked) and at.thief.url not in str(asked)
            assert not {*wanted} & {*asked.headers}

    attacked(tmp_path, monkeypatch, work)


def test_no_address_of_a_client_is_fetched_and_no_redirect_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(at: Setting) -> None:
        inside = at.thief.url.removeprefix("http://")
        wrong = [at.thief.url, f"https:{inside}", f"https:\\\\{inside}", f"https://good.example@{inside}/a.png",
                 "file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "gopher://a/", "https://",
                 f"https://good.example\t@{inside}", f"https://{inside}\r\nhost: a", "data:text/html;base64,aGk=",
                 "https://[::1"]  # fmt: skip
        for url in wrong:
            part = {"type": "image_url", "image_url": {"url": url}}
            refused = await at.post("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": [part]}]})
            assert refused.status_code == 400, url
        assert not at.there.asked
        part = {"type": "image_url", "image_url": {"url": f"https://{inside}/a.png"}}
        moved = await at.post("/v1/chat/completions", CHAT | {"messages": [{"role": "user", "content": [part]}]})
        assert moved.status_code in (400, 502) and "redirect" in moved.text and inside not in moved.text
        assert at.there.asked[0].body["messages"][0]["content"][0]["image_url"]["url"] == f"https://{inside}/a.png"

    where: list[str] = []

    def moves(asked: Asked) -> Any:
        said = asked.body["messages"][0]["content"][0]["image_url"]["url"]
        where.append(said)
        return reply(307, {}, location=said.replace("https", "http"))

    attacked(tmp_path, monkeypatch, work, moves)
    assert len(where) == 1


def test_no_other_way_of_writing_a_path_leads_around_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(at: Setting) -> None:
        for target in (
            "/admin/keys", "//admin/keys", "/%61dmin/keys", "/ADMIN/keys", "/health/../admin/keys", "/admin/keys/",
            "/health/%2e%2e/admin/keys", "/health;/admin/keys", "/health%00", "/admin/keys?key=x", "/health//",
            "/admin/keys%2f..", "http://127.0.0.1/admin/keys", "/admin%2fkeys", "/health\\..\\admin\\keys",
        ):  # fmt: skip
            for method in ("GET", "HEAD", "OPTIONS", "POST", "TRACE"):
                head = f"{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
                answer = await raw(at.url, head.encode())
                assert answer.split(b" ")[1] in (b"400", b"401", b"404"), (method, target, answer[:200])

    attacked(tmp_path, monkeypatch, work)


def test_pages_of_strangers_learn_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name of a stranger's page points to the loopback; its requests call the server by that."""

    async def work(at: Setting) -> None:
        for path in ("/", "/admin", "/admin/keys", "/admin/login", "/health", "/metrics", "/v1/models"):
            rebound = await at.http.get(path, headers=at.headers("admin") | {"host": "evil.example"})
            assert rebound.status_code == 421, path
            foreign = await at.http.get(path, headers=at.headers("admin") | {"origin": "http://evil.example"})
            assert foreign.status_code == 403 and "access-control-allow-origin" not in foreign.headers, path
        simple = await at.http.post(  # which a page may send without asking first
            "/v1/chat/completions", content=json.dumps(CHAT), headers=at.headers() | {"content-type": "text/plain"}
        )
        assert simple.status_code == 415

    attacked(tmp_path, monkeypatch, work)


def test_no_header_of_a_client_becomes_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(at: Setting) -> None:
        body = json.dumps(CHAT).encode()
        start = f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {at.here.keys['ours']}\r\n"
        end = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        for strange in (
            b"x-request-id: a\rset-cookie: b=c\r\n", b"x-request-id: a\nset-cookie: b=c\r\n",
            b"x-conversation-id: a\r\n set-cookie: b=c\r\n", b"traceparent: a\x00b\r\n",
            b"x-request-id: %0d%0a\r\n", b"x-request-id: \xe2\x80\xa8\r\n",
        ):  # fmt: skip
            answer = await raw(at.url, start.encode() + strange + end + body)
            assert b"set-cookie" not in answer.lower(), strange
            assert answer.split(b" ")[1] in (b"200", b"400"), strange
        strange_model = await at.post("/v1/chat/completions", CHAT | {"model": "m\r\nset-cookie: b=c"})
        assert strange_model.status_code == 404 and "set-cookie" not in strange_model.headers
        assert all("set-cookie" not in str(asked.headers) for asked in at.there.asked)

    attacked(tmp_path, monkeypatch, work)


def test_neither_keys_nor_texts_stand_in_logs_answers_or_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[str] = []
    replies = [
        ANSWER, reply(401, {"error": {"message": f"Incorrect API key provided: {SECRET}"}}),
        reply(400, {"error": {"message": "no", "code": "x"}}), [b"HTTP/1.1 200 OK\r\n\r\n<html>"], ["reset"],
    ]  # fmt: skip

    async def work(at: Setting) -> None:
        keys = [*at.here.keys.values(), "ih-wrong-but-somebodys"]
        for _ in range(len(replies) + 3):
            for is_stream in (False, True):
                answers.append((await at.post("/v1/chat/completions", CHAT | {"stream": is_stream})).text)
        wrong = {"authorization": f"Bearer {keys[-1]}"}
        answers.append((await at.http.get("/v1/models", headers=wrong)).text)
        answers.append((await at.post("/v1/chat/completions", CHAT | {TEXT: TEXT})).text)

        def breaks(*_: Any) -> None:
            raise RuntimeError(f"unforeseen: {TEXT} {at.here.keys['ours']}")

        monkeypatch.setattr(at.here.gateway.router, "decide", breaks)
        crashed = await at.post("/v1/chat/completions", CHAT)
        assert crashed.status_code == 500
        answers.append(crashed.text)
        await at.here.gateway.drained()
        kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
        for secret in (*keys, SECRET):
            assert secret not in caplog.text and secret.encode() not in kept
            assert not any(secret in answer for answer in answers)
        assert TEXT not in caplog.text and TEXT.encode() not in kept

    times = iter(range(10_000))
    with caplog.at_level(logging.DEBUG):
        attacked(tmp_path, monkeypatch, work, lambda _: replies[next(times) % len(replies)], access_log=True)


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(at: Setting) -> None:
        path, long = "/v1/chat/completions", "a" * 200_000
        deep: Any = {"type": "object"}
        for _ in range(300):
            deep = {"type": "object", "properties": {"a": deep}}
        for more in (
            {"n": 10**9}, {"n": 129}, {"max_tokens": 10**30}, {"top_logprobs": 10**6}, {"stop": ["a"] * 5},
            {"stop": [long]}, {"logit_bias": {str(n): 1 for n in range(50_000)}}, {"seed": 10**400},
            {"structured_outputs": {"regex": "(a+)+$"}}, {"structured_outputs": {"grammar": long}},
            {"messages": SAID * 20_000}, {"tools": [{"type": "function", "function": {"name": long}}]},
            {"temperature": 1e308},
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": deep, "strict": long}}},
        ):  # fmt: skip
            refused = await at.post(path, CHAT | more)
            assert refused.status_code == 400, (list(more), refused.status_code)
            assert len(refused.text) < 2_000
        for text in (
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"model": NaN}',
            b'{"model":"\\ud800","messages":[]}',
            b"\xff",
        ):
            headers = at.headers() | {"content-type": "application/json"}
            assert (await at.http.post(path, content=text, headers=headers)).status_code == 400, text[:20]
        assert not at.there.asked

        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {at.here.keys['ours']}\r\n".encode()
        head += b"content-type: application/json\r\n"
        declared = await raw(at.url, head + b"content-length: 99999999999\r\n\r\n{")
        assert declared.startswith(b"HTTP/1.1 413")
        chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        undeclared = await raw(at.url, head + b"transfer-encoding: chunked\r\n\r\n" + chunk * 20)
        assert undeclared.startswith(b"HTTP/1.1 413") or undeclared == b""  # gone before it has sent all
        for many in (b"x-a: " + b"a" * 100_000 + b"\r\n\r\n", b"x-a: b\r\n" * 20_000 + b"\r\n"):
            assert (await raw(at.url, head + many))[9:12] in (b"400", b"431", b"")
        assert (await raw(at.url, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n"))[9:12] in (b"400", b"431", b"")

    attacked(tmp_path, monkeypatch, work, max_body_bytes=1_000_000)


def test_who_is_slow_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(at: Setting) -> None:
        head = f"POST /v1/messages HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {at.here.keys['ours']}\r\n".encode()
        body = head + b"content-type: application/json\r\ncontent-length: 500\r\n\r\n{"
        slow = [raw(at.url, *parts) for parts in ((head,), (b"",), (body, 0.1, b" "), (head, 0.2, b"x-a: b\r\n"))]
        ended = asyncio.gather(*slow)
        assert (await at.http.get("/health")).status_code == 200  # meanwhile
        silent, empty, late, dripping = await ended
        assert (silent, empty, dripping) == (b"", b"", b"") and late.startswith(b"HTTP/1.1 408")
        assert not await at.here.rows("SELECT * FROM calls")

    attacked(tmp_path, monkeypatch, work, header_timeout=0.3, read_timeout=0.3)


def test_no_team_finds_the_cache_of_another_at_a_model_of_ones_own(tmp_path: Path) -> None:
    """All ask it with the gateway's one key, so its caches are kept apart by a salt of the team's."""
    seen: dict[str, set[str]] = {}

    async def main() -> None:
        async with loopback(answer=lambda asked: ANSWER) as there, opened_in_house(tmp_path, there.url) as here:
            for key in ("ours", "ours", "root"):
                here.keys["root"] = here.keys["admin"]
                for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"):
                    for salt in ({}, {"cache_salt": "s"}):
                        if salt and path == "/v1/messages":
                            continue
                        answer = await here.post(path, BODIES[path] | salt, key=key)
                        assert answer.status_code in (200,), answer.text
                        seen.setdefault(key, set()).add(there.asked[-1].body["cache_salt"])

    asyncio.run(main())
    assert len(seen["ours"]) == len(seen["root"]) == 2 and not seen["ours"] & seen["root"]


def test_a_price_that_is_none_is_never_zero(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    for price in ("-1.0", "nan", "inf", '""', '"free"', "true", "[]", "{}", "1e400"):
        file.write_text(
            'currency = "USD"\ndefault = "m"\n[[provider]]\nname = "acme"\ndialect = "openai"\n'
            'url = "https://127.0.0.1:1/v1"\n[[provider.model]]\nname = "m"\n'
            f'price = [{{ currency = "USD", input = 1.0, output = {price} }}]\n'
        )
        with pytest.raises(ValueError, match=r"gateway\.toml, line 9: .*output"):
            read_config(file)


def test_nothing_is_unpickled_or_evaluated() -> None:
    """In what the gateway is made of."""
    modules = "pickle|cPickle|dill|cloudpickle|marshal|shelve|joblib|yaml"
    forbidden = re.compile(
        rf"^\s*(?:import|from) (?:{modules})\b|(?<![\w.])(?:eval|exec|__import__)\(|allow_pickle=True", re.M
    )
    root = Path(inhouse.__file__).parent
    for file in (file for room in ("api", "gateway", "providers", "common") for file in (root / room).rglob("*.py")):
        assert not forbidden.search(file.read_text(encoding="utf-8")), file


def test_nothing_that_is_installed_runs_at_every_start_of_python() -> None:
    """A .pth file with code in it is how releases of dependencies were poisoned in 2026."""
    known = {"distutils-precedence.pth"}  # setuptools', for decades
    found = {
        file.name
        for each in metadata.distributions()
        for file in each.files or ()
        if file.suffix == ".pth" and "import" in Path(str(file.locate())).read_text(encoding="utf-8")
    }
    assert found <= known
