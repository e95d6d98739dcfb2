"""With vLLM behind them the faces say what they say with our own engine: same request, same answer."""

import json
import threading

import pytest

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Say it."}], "temperature": 0, "max_tokens": 12}
RAW = {"model": "tiny", "prompt": "def ", "temperature": 0, "max_tokens": 12}
SCHEMA = {"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
CALLS = {"tools": [TOOL], "tool_choice": "required"}
REQUESTS = {
    "raw": ("completions", RAW),
    "drawn": ("completions", RAW | {"temperature": 1, "seed": 3, "n": 3, "top_p": 0.9, "presence_penalty": 1.5}),
    "biased": ("completions", RAW | {"logit_bias": {"65": 90}, "min_tokens": 3, "ignore_eos": True}),
    "batch of ids": ("completions", RAW | {"prompt": [[1, 2, 3], [4, 5]], "stop": ["e", "\n"]}),
    "more than may come": ("completions", RAW | {"min_tokens": 500}),
    "stops at an id": ("completions", RAW | {"logit_bias": {"70": 100}, "stop_token_ids": [70]}),
    "echo": ("completions", RAW | {"echo": True, "logprobs": 3, "max_tokens": 4}),
    "echo alone": ("completions", RAW | {"echo": True, "logprobs": 2, "max_tokens": 0}),
    "chat": ("chat/completions", CHAT),
    "likeliest": ("chat/completions", CHAT | {"logprobs": True, "top_logprobs": 4}),
    "drawn alone": ("chat/completions", CHAT | {"logprobs": True, "temperature": 1, "seed": 1}),
    "schema": ("chat/completions", CHAT | {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}, "max_tokens": 40,
    }),
    "calls": ("chat/completions", CHAT | CALLS | {"max_tokens": 60}),
    "regex": ("completions", RAW | {"structured_outputs": {"regex": "[ab]{3,5}@x"}}),
    "messages": ("messages", CHAT),
    "responses": ("responses", {"model": "tiny", "input": "Say it.", "temperature": 0, "max_output_tokens": 16}),
    "unknown field": ("completions", RAW | {"promt": "x"}),
    "too long": ("completions", RAW | {"prompt": [5] * 500}),
    "other model": ("chat/completions", CHAT | {"model": "other"}),
    "hostile grammar": ("completions", RAW | {"structured_outputs": {"grammar": "start: ("}}),
}  # fmt: skip
CHANGING = ("id", "created", "created_at", "completed_at", "call_id", "prompt_tokens_details", "input_tokens")


@pytest.fixture(scope="module")
def vllm(run_vllm):
    with run_vllm("fp32") as (_, server):
        yield server


@pytest.fixture(scope="module")
def own(run_server):
    with run_server() as server:
        yield server


def steady(value):
    """Without what differs from one answer to the next, nor what was in whose cache; numbers to four places."""
    if isinstance(value, dict):
        return {key: steady(each) for key, each in value.items() if key not in CHANGING and "cache" not in key}
    if isinstance(value, list):
        return [steady(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


@pytest.mark.parametrize(("path", "body"), REQUESTS.values(), ids=REQUESTS.keys())
def test_an_answer_is_that_of_our_own_engine(own, vllm, path, body):
    ours, theirs = own.post(f"/v1/{path}", body), vllm.post(f"/v1/{path}", body)
    assert theirs.status_code == ours.status_code, theirs.text
    assert steady(theirs.json()) == steady(ours.json())


def test_a_stream_gives_the_same_pieces(own, vllm):
    def pieces(server, body):
        lines = server.post("/v1/chat/completions", body | {"stream": True}).text.splitlines()
        return [steady(json.loads(line[6:])) for line in lines if line.startswith("data: {")]

    for body in (CHAT, CHAT | {"logprobs": True, "top_logprobs": 2, "stop": ["q"]}, CHAT | CALLS | {"max_tokens": 60}):
        assert pieces(vllm, body) == pieces(own, body)


def test_how_much_was_cached_is_vllms_to_say(vllm):
    usage = vllm.post("/v1/completions", RAW).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 2}


def test_metrics_have_our_names_and_behind_them_vllms(vllm):
    lines = vllm.get("/metrics").text.splitlines()
    assert "inhouse_running_sequences 4.0" in lines and "inhouse_queued_sequences 7.0" in lines
    assert 'vllm:num_requests_waiting{engine="0",model_name="model"} 7.0' in lines
    assert any(line.startswith("inhouse_first_token_seconds_count") for line in lines)
    assert not any(line.startswith("process_") for line in lines)


def test_what_vllm_refuses_is_a_sentence_and_what_fails_in_it_is_not_told(vllm):
    refused = vllm.post("/v1/completions", RAW | {"priority": 66})
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == "The request cannot be answered: vLLM will not"
    failed = vllm.post("/v1/completions", RAW | {"priority": 77})
    assert failed.status_code == 500 and "secret" not in failed.text
    assert vllm.post("/v1/embeddings", {"model": "tiny", "input": "a"}).status_code == 400
    assert vllm.served.worker.in_flight == 0


def test_who_goes_away_frees_the_place(run_vllm, eventually, monkeypatch):
    monkeypatch.setenv("STAND_IN_SECONDS", "0.05")
    with run_vllm("bf16") as (_, server):
        body = RAW | {"max_tokens": 100, "stream": True}
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            pieces = answer.iter_bytes()
            next(pieces)  # comes while the rest is not there yet
            assert server.served.worker.in_flight == 1
        eventually(lambda: server.served.worker.in_flight == 0)
        eventually(lambda: not server.served.worker._running)


def test_when_vllm_ends_requests_are_told_and_so_is_the_server(run_vllm, eventually):
    crashed = threading.Event()
    with run_vllm("bf16", on_crash=crashed.set) as (program, server):
        failed = server.post("/v1/completions", RAW | {"priority": 99})
        assert failed.status_code == 500
        eventually(crashed.is_set)
        assert server.get("/health").status_code == 503
        said = str(program.ended()).splitlines()
        assert said[0] == "vLLM has ended; its last lines:" and said[-2:] == [
            "  a last word",
            "  vllm ended with status 0",
        ]
        assert program.ended().exit_status == 75
