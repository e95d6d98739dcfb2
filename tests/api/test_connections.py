"""Connections that say nothing, read nothing or are too many: they end, and everybody else is answered meanwhile."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inhouse.api.connections import RESERVE, Connection, Connections
from inhouse.api.metrics import ServerMetrics
from inhouse.api.middleware import Keyed, stack
from inhouse.api.server import listen, new_server
from inhouse.api.settings import ServeSettings

HALF = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
PATIENT = {"header_timeout": 1000.0, "write_timeout": 1000.0}


async def size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


class Served:
    """A server of a page that is `large` bytes, and of one that waits for `gate`."""

    def __init__(self, settings: ServeSettings, large: int) -> None:
        self.gate = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        app = Starlette(
            lifespan=self.lifespan,
            routes=[
                Route("/health", lambda request: PlainTextResponse("ok")),
                Route("/large", lambda request: Response(bytes(large))),
                Route("/wait", self.wait),
                Route("/size", size, methods=["POST"]),
            ],
            middleware=stack(settings, ServerMetrics(), Middleware(Keyed, api_key=None), host="127.0.0.1"),
        )
        self.server = new_server(app, settings)
        self.listener = listen("127.0.0.1", 0)
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.loop = asyncio.get_running_loop()
        yield

    def wait(self, request: Request) -> Response:
        self.gate.wait(60)
        return PlainTextResponse("done")

    @property
    def open(self) -> list[Connection]:
        connections: Connections = self.server.config.http.__self__
        return list(connections._open)

    def sweep_by_hand(self) -> None:
        """From now on: else one every second may fall into a pause that a busy machine makes."""
        self.server.config.timeout_notify = 1000

    def sweep(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.config.callback_notify(), self.loop).result(60)

    def connect(self, sent: bytes, **options: int) -> socket.socket:
        connection = socket.socket()
        for name, value in options.items():
            connection.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        connection.settimeout(30)
        connection.connect(self.address)
        connection.sendall(sent)
        return connection

    def health(self) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.address[1]}/health", timeout=30)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "did not become true in time"
        time.sleep(0.01)


@contextmanager
def serving(large: int = 10, **settings: object) -> Iterator[Served]:
    served = Served(ServeSettings(shutdown_timeout=1, **settings), large)
    served.thread.start()
    until(lambda: served.server.started)
    try:
        yield served
    finally:
        served.gate.set()
        served.server.should_exit = True
        served.thread.join(60)
        served.listener.close()
        assert not served.thread.is_alive()


def is_answered(connection: socket.socket) -> bool:
    """By the page that waits."""
    answer = b""
    while b"done" not in answer and (more := connection.recv(1000)):
        answer += more
    return b"done" in answer


def until_ends_with(connection: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end) and (more := connection.recv(1000)):
        answer += more
    return answer


def is_ended(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", HALF, b"\r\n", HALF + b"x" * 1000])
def test_more_silent_connections_than_fit_keep_nobody_out(sent):
    with serving(max_connections=4, **PATIENT) as served, ExitStack() as opened:
        for number in range(4 + RESERVE + 30):
            opened.enter_context(served.connect(sent))
            if number % 20 == 0:
                assert served.health().text == "ok"
        assert served.health().text == "ok"
        assert len(served.open) <= 4 + RESERVE


@pytest.mark.parametrize("sent", [b"", HALF, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_silent_connection_ends_in_time_however_slowly_it_speaks(sent):
    with serving(header_timeout=0.5) as served, served.connect(sent) as connection:  # sweeps come every second
        speaks = threading.Event()

        def drip() -> None:
            while not speaks.wait(0.1):
                try:
                    connection.send(b"G" if not sent else b"a")
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert is_ended(connection)
        speaks.set()
        thread.join()
        until(lambda: not served.open)


def test_what_nobody_reads_ends_too():
    with serving(large=50 << 20, write_timeout=0.2) as served:
        request = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with served.connect(request, SO_RCVBUF=4096) as connection:
            assert connection.recv(10)
            until(lambda: served.sweep() or not served.open)


def test_a_connection_that_asks_is_not_silent_though_every_sweep_finds_it_between_two_requests():
    with (
        serving(header_timeout=0.1) as served,
        httpx.Client(base_url=f"http://127.0.0.1:{served.address[1]}") as client,
    ):
        served.sweep_by_hand()
        client.get("/health")
        (connection,) = served.open
        for _ in range(4):
            time.sleep(0.15)
            assert client.get("/health").text == "ok"
            served.sweep()
            assert served.open == [connection]


def test_a_request_at_work_is_never_cut_off():
    with serving(header_timeout=0.2, write_timeout=0.2) as served:
        served.sweep_by_hand()
        connection = served.connect(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with connection:
            until(lambda: any(not each.is_silent for each in served.open))
            for _ in range(3):
                time.sleep(0.25)
                served.sweep()
            served.gate.set()
            assert is_answered(connection)


def test_while_all_are_at_work_others_are_told_so_and_the_health_is_answered():
    with serving(max_connections=3, **PATIENT) as served, ExitStack() as opened:
        request = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
        waiting = [opened.enter_context(served.connect(request)) for _ in range(3)]
        until(lambda: sum(not each.is_silent for each in served.open) == 3)
        refused = httpx.get(f"http://127.0.0.1:{served.address[1]}/large")
        assert refused.status_code == 503 and refused.json()["error"]["type"] == "server_error"
        assert refused.headers["retry-after"] == "1"
        assert served.health().text == "ok"
        served.gate.set()
        assert all(map(is_answered, waiting))


def test_one_address_has_no_more_than_its_share(monkeypatch):
    monkeypatch.setattr("inhouse.api.connections.is_loopback", lambda host: False)
    with serving(max_connections_per_peer=2, **PATIENT) as served, ExitStack() as opened:
        request = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
        first = opened.enter_context(served.connect(request))
        until(lambda: any(not each.is_silent for each in served.open))
        silent = opened.enter_context(served.connect(HALF))
        until(lambda: len(served.open) == 2)
        opened.enter_context(served.connect(request))
        assert is_ended(silent)  # gave way to one that asks
        until(lambda: sum(not each.is_silent for each in served.open) == 2)
        with served.connect(b"") as third:
            answer = b"".join(iter(lambda: third.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503") and b'"server_error"' in answer
        served.gate.set()
        assert is_answered(first)


def test_small_answers_are_sent_at_once():
    with serving(**PATIENT) as served, served.connect(b""):
        until(lambda: len(served.open) == 1)
        (connection,) = served.open
        plain = connection.transport.get_extra_info("socket")
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_what_is_no_http_is_refused_in_the_apis_shape():
    with serving() as served, served.connect(b"\x16\x03\x01 hello\r\n\r\n") as connection:
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 400") and b'"invalid_request_error"' in answer


@pytest.mark.parametrize("wrong", [b"\x16\x03\x01 hello\r\n\r\n", b"X: " + b"a" * 200_000])
def test_what_is_no_http_behind_a_request_at_work_ends_its_connection_after_the_answer(wrong, caplog):
    with serving(**PATIENT) as served:
        request = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with served.connect(request + wrong) as connection:
            until(lambda: any(not each.is_silent for each in served.open))
            served.gate.set()
            assert is_answered(connection) and is_ended(connection)
        assert served.health().text == "ok"
    assert "Traceback" not in caplog.text


CHUNKED = b"POST /size HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"a" * 1000),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n" * 200),
        (b"GET /", b"a" * 1000),
        (b"", b"\r\n" * 500),
        (CHUNKED + b"1;", b"a" * 1000),
        (CHUNKED + b"0\r\n", b"X: a\r\n" * 200),
        (CHUNKED + b"0\r\nX: ", b"a" * 1000),
    ],
    ids=["value", "headers", "path", "empty lines", "extension", "trailers", "trailer"],
)
def test_what_is_kept_beside_a_body_is_bounded(start, drip):
    with serving(**PATIENT) as served, served.connect(start) as connection:
        with suppress(ConnectionError):
            for _ in range(2000):
                connection.sendall(drip)
        assert is_ended(connection)
        assert served.health().text == "ok"


def test_a_head_that_is_too_long_is_said_so():
    with serving() as served, served.connect(HALF + b"a" * 70_000) as connection:
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 431 ") and b'"invalid_request_error"' in answer


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_body_may_come_in_any_number_of_chunks(size):
    body = bytes(60_000)
    chunks = (b"%x\r\n%s\r\n" % (len(part), part) for part in (body[i : i + size] for i in range(0, len(body), size)))
    with serving() as served, served.connect(CHUNKED + b"".join(chunks) + b"0\r\n\r\n") as connection:
        assert b"60000" in until_ends_with(connection, b"60000")


@pytest.mark.parametrize(
    "body", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("cut", [20, 90, -7, -1, None])
def test_an_offer_of_another_protocol_is_ignored_and_costs_no_body(body, cut):
    """As Java's client makes it with every request (RFC 9110, section 7.8)."""
    offer = b"Host: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    request = b"POST /size HTTP/1.1\r\n" + offer + body
    with serving() as served, served.connect(request[:cut]) as connection:
        if cut is not None:
            time.sleep(0.05)
            connection.sendall(request[cut:])
        assert until_ends_with(connection, b"\r\n\r\n5").startswith(b"HTTP/1.1 200")
        connection.sendall(request)  # the connection lives on
        assert until_ends_with(connection, b"\r\n\r\n5").startswith(b"HTTP/1.1 200")


def test_requests_behind_one_another_are_answered_in_order_and_bounded():
    request = b"POST /size HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
    with serving() as served:
        with served.connect(b"".join(request % (n, b"x" * n) for n in range(1, 5))) as connection:
            answers = until_ends_with(connection, b"\r\n\r\n4")
            assert [answers.index(b"\r\n\r\n%d" % n) for n in range(1, 5)] == sorted(
                answers.index(b"\r\n\r\n%d" % n) for n in range(1, 5)
            )
        with served.connect(request % (1, b"x") * 5000) as connection:
            answers = b"".join(iter(lambda: connection.recv(1 << 16), b""))
            assert answers.count(b"HTTP/1.1 200") >= 16, "those before are answered"
        assert served.health().text == "ok"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"Transfer-Encoding: chunked", b"zz\r\n"),
        (b"Transfer-Encoding: chunked", b"11111111111111111\r\n"),
        (b"Transfer-Encoding: identity", b"hello"),
        (b"Transfer-Encoding: xchunked", b"hello"),
        (b"Transfer-Encoding: gzip, chunked", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
        (b"Host: evil.example\r\nContent-Length: 5", b"hello"),
    ],
)
def test_what_nobody_can_tell_the_end_of_is_refused(head, body):
    request = b"POST /size HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n" + body
    with serving(**PATIENT) as served, served.connect(request) as connection:
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 400 ") and b'"invalid_request_error"' in answer
        assert served.health().text == "ok"


def test_it_is_no_proxy():
    with serving() as served, served.connect(b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One for localhost, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_with_a_certificate_it_speaks_https(certificate):
    with serving(tls_certificate=certificate[0], tls_key=certificate[1]) as served:
        context = ssl.create_default_context(cafile=str(certificate[0]))
        with httpx.Client(verify=context, base_url=f"https://127.0.0.1:{served.address[1]}", timeout=30) as client:
            assert client.get("/health").text == "ok"
        with pytest.raises(httpx.TransportError):
            served.health()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_what_is_no_certificate_is_a_sentence(tmp_path, content):
    path = tmp_path / "x.pem"
    if content:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"x\.pem: not a certificate"):
        new_server(Starlette(), ServeSettings(tls_certificate=path))
