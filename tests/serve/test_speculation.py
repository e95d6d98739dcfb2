"""Over HTTP nobody sees drafts: the same answers, the same pieces of a stream with the same log-probabilities."""

import json

import pytest

from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings

PROMPT = "a b a b a b a b a b a b"
ASKED = [
    {"temperature": 0, "logprobs": 2, "ignore_eos": True},
    {"seed": 3, "n": 2, "temperature": 0.5, "top_p": 0.8, "stop": ["e", "zz"], "logprobs": 0},
    {"seed": 1, "frequency_penalty": 0.5, "min_tokens": 5, "echo": True, "logprobs": 1},
    {"temperature": 0, "structured_outputs": {"regex": "(a b ){3}[0-9]{2}(a b ){3}"}},
]


@pytest.fixture(scope="module")
def servers(model, tokenizer, run_server):
    drafting = Engine(model, tokenizer, EngineSettings(max_sequences=8, speculation="ngram"))
    with run_server() as plain, run_server(drafting) as drafts:
        yield plain, drafts


def choices(server, **asked):
    """The choices of an answer, numbers rounded."""
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 40} | asked
    reply = server.post("/v1/completions", body)
    assert reply.status_code == 200, reply.text
    if not asked.get("stream"):
        return rounded(reply.json()["choices"])
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    return rounded(
        [choice for index in (0, 1) for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    )


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


@pytest.mark.parametrize("asked", ASKED)
def test_answers_are_those_without(servers, asked):
    plain, drafts = (choices(server, **asked) for server in servers)
    assert plain == drafts


@pytest.mark.parametrize("asked", ASKED)
def test_streams_say_the_same(servers, asked):
    """Outputs of one step may come as one piece or as several."""
    texts, logprobs, reasons = [], [], []
    for server in servers:
        pieces = choices(server, stream=True, **asked)
        texts.append(["".join(piece["text"] for piece in pieces if piece["index"] == index) for index in (0, 1)])
        logprobs.append([p for piece in pieces if piece.get("logprobs") for p in piece["logprobs"]["token_logprobs"]])
        reasons.append([piece["finish_reason"] for piece in pieces if piece["finish_reason"]])
    assert texts[0] == texts[1] and reasons[0] == reasons[1]
    assert logprobs[0] == logprobs[1]


def test_metrics_count_drafts(servers):
    choices(servers[1], **ASKED[0])
    for server, drafts in zip(servers, (False, True), strict=True):
        lines = dict(line.rsplit(" ", 1) for line in server.get("/metrics").text.splitlines() if line[0] != "#")
        drafted, accepted = (int(lines[f"inhouse_{name}_tokens_total"]) for name in ("draft", "accepted"))
        assert drafted >= accepted and (accepted > 0) == drafts
