"""A stream that has nothing to say is kept open, in the words of its API."""

import threading

import pytest


class Held:
    """An engine that does nothing until it may."""

    def __init__(self, engine):
        self.engine, self.may_go = engine, threading.Event()

    def step(self):
        self.may_go.wait()
        return self.engine.step()

    def __getattr__(self, name):
        return getattr(self.engine, name)


@pytest.mark.parametrize(
    ("path", "body", "ping"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "q"}], "max_tokens": 4}, ": ping\n\n"),
        ("completions", {"prompt": "a", "max_tokens": 4}, ": ping\n\n"),
        ("responses", {"input": "q", "max_output_tokens": 4}, ": ping\n\n"),
        (
            "messages",
            {"messages": [{"role": "user", "content": "q"}], "max_tokens": 4},
            'event: ping\ndata: {"type":"ping"}\n\n',
        ),
    ],
)
def test_it_says_so(new_engine, run_server, path, body, ping):
    engine = Held(new_engine())
    with run_server(engine, ping_interval=0.02) as server:
        try:
            with server.http.stream("POST", f"/v1/{path}", json=body | {"model": "tiny", "stream": True}) as answer:
                text = ""
                for part in answer.iter_text():
                    text += part
                    if text.count(ping) == 2:
                        engine.may_go.set()
            rest = text.replace(ping, "")
            assert text.count(ping) >= 2 and rest.endswith("\n\n") and "ping" not in rest
            assert all(event.startswith(("data: ", "event: ")) for event in rest.removesuffix("\n\n").split("\n\n"))
        finally:
            engine.may_go.set()


def test_who_has_something_to_say_says_nothing_else(server):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "q"}], "max_tokens": 8, "stream": True}
    assert ": ping" not in server.post("/v1/chat/completions", body).text
