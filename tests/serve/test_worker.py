"""Places, the queue, clients that go away or never read, and an engine that fails; step by step, not by the clock."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

NAME = "tiny"
LONG = {"model": NAME, "prompt": "def ", "max_tokens": 100, "temperature": 0}


class Gate:
    """An engine whose steps wait until the test allows them, and that fails when told to."""

    def __init__(self, engine: object) -> None:
        self.engine, self.steps, self.fails = engine, threading.Semaphore(0), False

    def step(self) -> list:
        self.steps.acquire()
        if self.fails:
            raise RuntimeError("secret detail of the inside")
        return self.engine.step()

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)


@pytest.fixture
def gated(new_engine, run_server) -> Callable[..., AbstractContextManager[tuple[Gate, Any]]]:
    """`with gated(places=…) as (gate, server)`"""

    @contextmanager
    def run(places: int, **settings: object) -> Iterator[tuple[Gate, Any]]:
        gate = Gate(new_engine(places))
        with run_server(gate, **settings) as server:
            try:
                yield gate, server
            finally:
                gate.steps.release(10_000)

    return run


def send(server, body: dict, receive_buffer: int | None = None) -> socket.socket:
    """A raw request whose answer nobody has read yet."""
    host, port = server.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    connection = socket.socket()
    connection.settimeout(10)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect((host, int(port)))
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_place_within_one_step(gated, eventually, stream):
    with gated(places=2) as (gate, server):
        connection = send(server, LONG | {"stream": stream, "n": 2})
        gate.steps.release(3)
        eventually(lambda: gate.num_running == 2)
        connection.close()
        eventually(lambda: server.served.worker.in_flight == 0)
        gate.steps.release()  # the step under way when the client left
        eventually(lambda: gate.num_running == 0 and gate.pages_in_use == 0)
        assert "aborted_sequences_total 2" in server.get("/metrics").text


def test_requests_that_wait_in_the_queue_can_go_away_too(gated, eventually):
    with gated(places=1) as (gate, server):
        first = send(server, LONG)
        gate.steps.release()
        eventually(lambda: gate.num_running == 1)
        second = send(server, LONG)
        eventually(lambda: server.served.worker.in_flight == 2)
        second.close()
        eventually(lambda: server.served.worker.in_flight == 1)
        first.close()
        eventually(lambda: server.served.worker.in_flight == 0)


def test_more_requests_than_places_wait_and_then_get_429(gated, eventually):
    with gated(places=1, max_queue=2) as (gate, server):
        waiting = [send(server, LONG | {"max_tokens": 2}) for _ in range(3)]
        eventually(lambda: server.served.worker.in_flight == 3)
        response = server.post("/v1/completions", LONG)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "queue_full"
        assert server.post("/v1/completions", LONG | {"n": 4}).status_code == 400  # would never fit
        gate.steps.release(1000)
        for connection in waiting:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.close()
        assert server.post("/v1/completions", LONG | {"max_tokens": 1}).status_code == 200


def test_when_the_engine_crashes_everybody_is_told(gated, eventually):
    with gated(places=4) as (gate, server):
        whole, streamed = send(server, LONG), send(server, LONG | {"stream": True})
        eventually(lambda: server.served.worker.in_flight == 2)
        gate.steps.release(2)
        eventually(lambda: gate.num_running == 2)
        assert server.get("/health").status_code == 200
        gate.fails = True
        gate.steps.release(1)
        eventually(lambda: server.get("/health").status_code == 503)
        answer = whole.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 500") and b"secret" not in answer
        streamed.shutdown(socket.SHUT_WR)
        text = b"".join(iter(lambda: streamed.recv(10_000), b""))
        assert b'"type":"server_error"' in text and b"[DONE]" not in text and b"secret" not in text
        refused = server.post("/v1/completions", LONG)
        assert refused.status_code == 503 and refused.json()["error"]["type"] == "server_error"


def test_a_client_that_never_reads_is_dropped(run_server, eventually):
    with run_server(write_timeout=0.3) as server:
        # log-probabilities of 64 answers fill every buffer between here and there
        connection = send(server, LONG | {"stream": True, "n": 64, "logprobs": 20, "echo": True}, receive_buffer=4096)
        eventually(lambda: server.served.worker.in_flight == 64)
        eventually(lambda: not server.served.worker.tickets, seconds=120)
        connection.close()
        assert server.post("/v1/completions", LONG | {"max_tokens": 1}).status_code == 200


def test_shutting_down_lets_running_requests_end(gated, eventually):
    with gated(places=1) as (gate, server):
        connection = send(server, LONG | {"max_tokens": 3})
        eventually(lambda: server.served.worker.in_flight == 1)
        gate.steps.release(10)
    assert connection.recv(10_000).startswith(b"HTTP/1.1 200")


def test_metrics_are_prometheus_text(run_server):
    with run_server() as server:
        server.post("/v1/completions", LONG | {"max_tokens": 5, "prompt": [9, 9, 9], "n": 2})
        server.get(f"/made-up-{'x' * 50}")
        page = server.get("/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = {}
    for line in page.text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    assert values['inhouse_requests_total{path="/v1/completions",status="200"}'] == 1
    assert values['inhouse_requests_total{path="other",status="404"}'] == 1
    assert values["inhouse_prompt_tokens_total"] == 6
    assert 2 <= values["inhouse_generated_tokens_total"] <= 10
    assert values['inhouse_request_seconds_bucket{le="+Inf"}'] == values["inhouse_request_seconds_count"] == 1
    assert values["inhouse_first_token_seconds_count"] == 1
    assert values["inhouse_running_sequences"] == values["inhouse_queued_sequences"] == 0
    assert values["inhouse_kv_pages"] > 0
    assert "made-up" not in page.text
