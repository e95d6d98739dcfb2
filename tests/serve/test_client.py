"""Every served call through the official client, which validates each response strictly."""

import math
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import openai
import pytest
import torch
from openai import OpenAI
from openai.types import Completion

from inhouse.engine.request import SamplingParams

NAME = "tiny"
CONTEXT = 128
MESSAGES = [{"role": "user", "content": "What is 2 + 3?"}]


@pytest.fixture(scope="module")
def stream_completion(server):
    """Streamed completions, each chunk validated strictly but for one thing.

    The client's type wants a finish_reason in every chunk of /v1/completions, while the API that it is for sends null
    until the end, as its users expect; so the client itself reads these chunks without strictness.
    """

    def stream(client: OpenAI, **options: object) -> Iterator[Completion]:
        for chunk in client.completions.create(model=NAME, stream=True, **options):
            raw = chunk.model_dump(exclude_unset=True)
            for choice in raw["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
            Completion.model_validate(raw, strict=True)
            yield chunk

    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield partial(stream, client)


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == NAME
    assert client.models.retrieve(NAME).id == NAME


def test_chat(client):
    answer = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=8, seed=1)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.refusal is None
    assert choice.logprobs is None
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_the_whole_answer_says(client):
    options = {"model": NAME, "messages": MESSAGES, "max_completion_tokens": 24, "seed": 3, "n": 3}
    options |= {"logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**options)
    texts, reasons, tokens, usages = [""] * 3, [None] * 3, [[], [], []], []
    for chunk in client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}):
        usages.append(chunk.usage)
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
            tokens[choice.index] += choice.logprobs.content if choice.logprobs else []
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usages[-1].model_dump(exclude={"prompt_tokens_details"}) == whole.usage.model_dump(
        exclude={"prompt_tokens_details"}
    )
    assert set(usages[:-1]) == {None}
    for choice, streamed in zip(whole.choices, tokens, strict=True):
        assert [token.token for token in choice.logprobs.content] == [token.token for token in streamed]
        assert all(len(token.top_logprobs) == 2 for token in streamed)


def test_the_tokens_of_a_chat_are_its_content(client):
    for seed in range(5):
        answer = client.chat.completions.create(
            model=NAME, messages=MESSAGES, max_tokens=40, seed=seed, logprobs=True, n=4, stop=["e", "xq"]
        )
        for choice in answer.choices:
            text = b"".join(bytes(token.bytes) for token in choice.logprobs.content).decode("utf-8", "replace")
            assert text.startswith(choice.message.content)  # a stop string may begin inside of the last token
            assert "e" not in choice.message.content


def test_a_seed_repeats_and_samples_differ(client):
    options = {"model": NAME, "prompt": "def ", "max_tokens": 20, "seed": 7, "n": 4}
    first, second = (client.completions.create(**options) for _ in range(2))
    assert [choice.text for choice in first.choices] == [choice.text for choice in second.choices]
    assert len({choice.text for choice in first.choices}) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_batches_of_texts_and_of_token_ids_are_the_same(client, stream_completion, tokenizer, stream):
    texts = ["def f", "class A", "import "]

    def complete(prompt):
        options = {"prompt": prompt, "max_tokens": 6, "temperature": 0}
        found = [""] * 3
        for part in stream_completion(**options) if stream else [client.completions.create(model=NAME, **options)]:
            for choice in part.choices:
                found[choice.index] += choice.text
        return found

    assert complete(texts) == complete([tokenizer.encode(text) for text in texts])


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_echo_gives_the_models_own_log_probabilities(client, model, tokenizer, max_tokens):
    prompts = [tokenizer.encode("def main():\n    return 1"), tokenizer.encode("é 谢谢")]
    answer = client.completions.create(
        model=NAME, prompt=prompts, max_tokens=max_tokens, logprobs=1, echo=True, temperature=0, seed=1234
    )
    assert answer.usage.completion_tokens == max_tokens * 2
    for prompt, choice in zip(prompts, answer.choices, strict=True):
        with torch.no_grad():
            logprobs = model.logits(model(torch.tensor([prompt])).hidden_BTD)[0].log_softmax(-1)
        found = choice.logprobs
        assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(prompt) + max_tokens
        expected = logprobs[:-1].gather(1, torch.tensor(prompt[1:])[:, None])[:, 0]
        assert torch.allclose(torch.tensor(found.token_logprobs[1 : len(prompt)]), expected, atol=1e-4)
        assert found.token_logprobs[0] == 0.0
        for place, top in enumerate(found.top_logprobs[1 : len(prompt)]):
            assert math.isclose(max(top.values()), logprobs[place].max().item(), abs_tol=1e-4)
            is_greedy = prompt[place + 1] == logprobs[place].argmax().item()
            assert (found.token_logprobs[place + 1] == max(top.values())) == is_greedy  # lm_eval asks so
        assert choice.text.startswith(tokenizer.decode(prompt))
        assert found.text_offset == sorted(found.text_offset)


def test_echo_streams_the_prompt_first(stream_completion):
    chunks = list(stream_completion(prompt="def f", max_tokens=3, temperature=0, echo=True, logprobs=0))
    assert chunks[0].choices[0].text.startswith("def f")
    assert [len(chunk.choices) for chunk in chunks] == [1] * len(chunks)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_stop_string_ends_the_text_before_it(client):
    free = client.completions.create(model=NAME, prompt="x = ", max_tokens=40, temperature=0).choices[0]
    stop = re.search(r"[!-~]{3}", free.text)[0]  # what is no text stands for broken bytes
    cut = client.completions.create(model=NAME, prompt="x = ", max_tokens=40, temperature=0, stop=stop).choices[0]
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_some_answers_end_by_themselves(client):
    answer = client.completions.create(model=NAME, prompt="a", max_tokens=100, temperature=2, n=24, seed=0)
    ended = [choice for choice in answer.choices if choice.finish_reason == "stop"]
    assert ended
    assert not any("<|im_end|>" in choice.text or "<|endoftext|>" in choice.text for choice in ended)


def test_an_answer_ends_where_the_context_ends(client):
    answer = client.completions.create(model=NAME, prompt=[7] * (CONTEXT - 3), max_tokens=10**30, temperature=0)
    assert answer.usage.total_tokens <= CONTEXT
    assert answer.choices[0].finish_reason in ("length", "stop")


def test_several_system_messages_at_the_beginning_are_one(client):
    system = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}]
    one = [{"role": "system", "content": "Be brief.\n\nBe kind."}]
    answers = [
        client.chat.completions.create(model=NAME, messages=[*said, *MESSAGES], max_tokens=8, temperature=0)
        for said in (system, one)
    ]
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content


def test_parallel_requests_get_their_own_answers(client):
    prompts = [f"def f{number}(" for number in range(32)]

    def complete(prompt: str) -> str:
        return client.completions.create(model=NAME, prompt=prompt, max_tokens=10, temperature=0).choices[0].text

    alone = [complete(prompt) for prompt in prompts]
    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(complete, prompts)) == alone


def test_text_that_is_no_utf8_yet_is_held_back(client, stream_completion):
    """A random model writes broken bytes all the time; the pieces of a stream must join to the whole answer."""
    options = {"prompt": "é", "max_tokens": 60, "temperature": 2, "seed": 5}
    whole = client.completions.create(model=NAME, **options).choices[0].text
    assert "".join(chunk.choices[0].text for chunk in stream_completion(**options)) == whole


def test_fields_that_change_nothing_are_accepted(client):
    client.chat.completions.create(
        model=NAME, messages=MESSAGES, max_tokens=1, user="u", store=False, metadata={"a": "b"}, tools=[],
        frequency_penalty=0, presence_penalty=0, logit_bias={}, response_format={"type": "text"}, stop=None,
    )  # fmt: skip


def test_errors_are_the_clients_own_types(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="other", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=NAME, prompt=[5] * CONTEXT)
    assert caught.value.code == "context_length_exceeded"


def test_what_the_prefix_cache_held_is_told(run_server):
    """However many answers a prompt gets; in the metrics too."""
    body = {"model": "tiny", "prompt": [list(range(40, 80)), list(range(90, 100))], "max_tokens": 2, "n": 2}
    with run_server() as server:
        first, second = (server.post("/v1/completions", body).json()["usage"] for _ in range(2))
        assert first["prompt_tokens_details"] == {"cached_tokens": 0}
        assert second["prompt_tokens_details"] == {"cached_tokens": 39 + 9}
        assert (
            f"inhouse_cached_tokens_total {32 + 2 * (39 + 9)}" in server.get("/metrics").text
        )  # in the first, of the second sample


def test_what_a_request_does_not_say_is_as_the_models_folder_has_it(run_server):
    body = {"model": "tiny", "prompt": "def", "max_tokens": 12, "seed": 5}
    with run_server(sampling=SamplingParams(max_tokens=1, temperature=0)) as server:
        silent, same, other = (
            server.post("/v1/completions", body | said).json()["choices"][0]["text"]
            for said in ({}, {"temperature": 0}, {"temperature": 2, "top_p": 1})
        )
    assert silent == same != other


def test_special_tokens_are_no_part_of_the_text(run_server, tokenizer):
    """They are tokens all the same: counted, and in the log-probabilities."""
    start = tokenizer.special["<|im_start|>"]
    body = {"model": "tiny", "prompt": "def", "max_tokens": 3, "temperature": 0, "logit_bias": {start: 100}}
    with run_server() as server:
        answer = server.post("/v1/completions", body | {"logprobs": 0}).json()
        streamed = server.post("/v1/completions", body | {"stream": True}).text
    (choice,) = answer["choices"]
    assert choice["text"] == ""
    assert choice["logprobs"]["tokens"] == ["<|im_start|>"] * 3
    assert answer["usage"]["completion_tokens"] == 3
    assert "im_start" not in streamed
