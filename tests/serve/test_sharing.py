"""Who asks by which key: what others have asked cannot be told from their answers, and all get their turn."""

import pytest

from inhouse.api.errors import ApiError
from inhouse.api.metrics import ServerMetrics
from inhouse.engine.request import SamplingParams
from inhouse.engine.scheduler import Origin
from inhouse.serve.worker import Worker

NAME = "tiny"
TEXT = {"model": NAME, "prompt": list(range(40, 80)), "max_tokens": 2, "temperature": 0}
MESSAGES = [{"role": "user", "content": "a long question " * 4}]


def cached(server, key: str, path: str = "/v1/completions", body: object = TEXT) -> int:
    response = server.post(path, body, headers={"x-api-key": key})
    assert response.status_code == 200, response.text
    usage = response.json()["usage"]
    return (usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))["cached_tokens"]


def test_a_prefix_is_found_under_its_own_key_alone(run_server):
    with run_server(api_key="one\ntwo words\n") as server:
        assert [cached(server, key) for key in ("one", "two words", "one", "two words")] == [0, 0, 39, 39]
        for given, status in (("two words", 200), ("one", 200), ("two", 401), ("words", 401), ("", 401)):
            headers = {"authorization": f"Bearer {given}".strip()}
            assert server.post("/v1/completions", TEXT, headers=headers).status_code == status
        page = server.get("/metrics", headers={"x-api-key": "one"}).text
    assert "inhouse_kv_pages_cached 6\n" in page, "of each key two full pages and the third"
    assert "# TYPE inhouse_kv_pages_evicted_total counter\ninhouse_kv_pages_evicted_total 0\n" in page


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", TEXT),
        ("/v1/chat/completions", {"model": NAME, "messages": MESSAGES, "max_tokens": 2}),
        ("/v1/responses", {"model": NAME, "input": MESSAGES, "max_output_tokens": 2}),
    ],
)
def test_a_request_may_bring_a_salt_of_its_own(run_server, path, body):
    with run_server() as server:
        counts = [cached(server, "", path, body | {"cache_salt": salt}) for salt in ("a", "b", None, "a")]
        assert counts[:3] == [0, 0, 0] and counts[3] > 16
        assert cached(server, "", path, body | {"prompt_cache_key": "b"}) == counts[3], "a hint that says nothing here"
        assert server.post(path, body | {"cache_salt": ""}).status_code == 400


def test_a_full_queue_lets_in_whoever_holds_less_than_an_equal_share(new_engine):
    worker = Worker(new_engine(places=2), ServerMetrics(), max_queue=2)
    worker.check_alive = lambda: None  # nothing runs
    jobs = [([1, 2, 3], SamplingParams(max_tokens=1))]
    with worker.submit(jobs * 4, Origin("many")):
        with pytest.raises(ApiError) as refused:
            worker.submit(jobs, Origin("many")).__enter__()
        assert refused.value.status == 429
        with worker.submit(jobs * 2, Origin("one")), pytest.raises(ApiError):
            worker.submit(jobs, Origin("one")).__enter__()
