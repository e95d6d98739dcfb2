"""POST /v1/embeddings: the model's own vectors, however the inputs are sent."""

import base64

import numpy as np
import pytest
import torch
from openai import OpenAI

NAME = "tiny"
CONTEXT = 128
TEXTS = ["def f(x):", "the <|im_end|> of it", "é 谢谢"]


@pytest.fixture(scope="module")
def expected(model, tokenizer):
    """The mean of what enters the head, at length 1."""

    def run(ids: list[int]) -> np.ndarray:
        with torch.no_grad():
            mean = model(torch.tensor([ids])).hidden_BTD[0].mean(dim=0)
        return (mean / mean.norm()).numpy()

    return run


def embedded(server, **body: object) -> dict:
    answer = server.post("/v1/embeddings", {"model": NAME} | body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_vectors_are_those_of_the_model_run_directly(server, expected, tokenizer):
    ids = [tokenizer.encode(text) for text in TEXTS]
    answer = embedded(server, input=TEXTS)
    assert answer["object"] == "list" and answer["model"] == NAME
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert {item["object"] for item in answer["data"]} == {"embedding"}
    assert answer["usage"] == {"prompt_tokens": sum(map(len, ids)), "total_tokens": sum(map(len, ids))}
    for item, own in zip(answer["data"], ids, strict=True):
        np.testing.assert_allclose(item["embedding"], expected(own), atol=1e-5)
    assert [item["embedding"] for item in embedded(server, input=ids)["data"]] == pytest.approx(
        [pytest.approx(item["embedding"], abs=1e-5) for item in answer["data"]]
    )


@pytest.mark.parametrize("single", ["def f(x):", [5, 6, 7], [0]])
def test_one_input_is_a_batch_of_one(server, expected, tokenizer, single):
    (item,) = embedded(server, input=single)["data"]
    ids = tokenizer.encode(single) if isinstance(single, str) else single
    np.testing.assert_allclose(item["embedding"], expected(ids), atol=1e-5)


def test_base64_is_the_same_numbers(server):
    numbers, coded = (embedded(server, input=TEXTS, encoding_format=name)["data"] for name in ("float", "base64"))
    for plain, packed in zip(numbers, coded, strict=True):
        raw = base64.b64decode(packed["embedding"], validate=True)
        assert np.frombuffer(raw, "<f4").tolist() == pytest.approx(plain["embedding"], abs=1e-6)


def test_the_official_client_reads_them(server, expected, tokenizer):
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model=NAME, input=TEXTS)  # it asks for base64
    for item, text in zip(answer.data, TEXTS, strict=True):
        np.testing.assert_allclose(item.embedding, expected(tokenizer.encode(text)), atol=1e-5)


def test_more_inputs_than_there_are_places(server, expected):
    """In waves, each a step of the engine; a prompt that fills the context is one of them."""
    ids = [[number % 300, 7] for number in range(100)] + [[9] * CONTEXT]
    answer = embedded(server, input=ids)
    assert len(answer["data"]) == 101
    for place in (0, 63, 99, 100):
        np.testing.assert_allclose(answer["data"][place]["embedding"], expected(ids[place]), atol=1e-5)
    assert server.served.worker.in_flight == server.served.engine.pages_in_use == 0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [[[1]]]}, "input"),
        ({"input": 5}, "input"),
        ({"input": None}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": [10**40]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [7] * (CONTEXT + 1)}, "input"),
        ({"input": "x y" * CONTEXT}, "input"),
        ({"input": "x" * 4_000_000}, "input"),
        ({"dimensions": 8}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"model": None}, "model"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_it_refuses(server, change, param):
    answer = server.post("/v1/embeddings", {"model": NAME, "input": "a"} | change)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_more_tokens_than_one_request_may_have(run_server):
    with run_server(max_embedding_tokens=20) as server:
        answer = server.post("/v1/embeddings", {"model": NAME, "input": [[1] * 11] * 2})
        assert answer.status_code == 400 and "22 tokens" in answer.json()["error"]["message"]
        assert server.post("/v1/embeddings", {"model": NAME, "input": [[1] * 10] * 2}).status_code == 200
        assert "inhouse_generated_tokens_total 0" in server.get("/metrics").text


def test_answers_under_way_go_on(run_server):
    """Embeddings of a thousand tokens a wave; a stream beside them gets a token with every step."""
    with run_server() as server:
        with server.http.stream(
            "POST",
            "/v1/completions",
            json={"model": NAME, "prompt": "a", "stream": True, "ignore_eos": True, "max_tokens": 100},
        ) as stream:
            lines = stream.iter_lines()
            next(lines)
            worker, taken = server.served.worker, []
            original = worker.engine.step

            def step():
                outputs = original()
                taken.append(
                    {output.completion is not None and output.completion.embedding is not None for output in outputs}
                )
                return outputs

            worker.engine.step = step
            embedded(server, input=[[7] * 100] * 200)
            rest = sum(line.startswith("data: {") for line in lines)
        assert rest >= 60
        assert {True, False} in taken  # both in one step
