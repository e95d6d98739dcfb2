"""OpenAI's dialect beside chats: log-probabilities, completions, embeddings, and what servers of ours know besides."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.providers.made_answers import CUTS, streamed

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.completions import CompletionRequest
from inhouse.api.wire.embeddings import EmbeddingRequest
from inhouse.api.wire.pieces import Content, Usage
from inhouse.providers.answers import Answer, Embedded, Logprobs, TokenLogprob, gather
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.errors import MalformedAnswer, NotExpressible
from inhouse.providers.expressible import Capabilities, check_expressible
from inhouse.providers.gemini import GEMINI
from inhouse.providers.openai import EMBEDDINGS, INHOUSE, OPENAI, OPENAI_COMPLETIONS

SCORES = st.lists(st.tuples(st.text(min_size=1, max_size=3), st.floats(-20, 0)), min_size=1, max_size=5)


@settings(max_examples=60)
@given(SCORES, CUTS)
def test_a_completion_and_its_log_probabilities_are_the_same_however_they_come(
    scores: list[tuple[str, float]], cuts: list[int]
) -> None:
    def said(some: list[tuple[str, float]], finish: str | None = None, **fields: object) -> dict:
        tokens, values = [token for token, _ in some], [value for _, value in some]
        logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": [{token: -1.5} for token in tokens]}
        choice = {"index": 0, "text": "".join(tokens), "logprobs": logprobs, "finish_reason": finish}
        return {"id": "x", "model": "m", "choices": [choice]} | fields

    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    chunks = [*(said([each]) for each in scores), said([], "length", usage=usage)]
    raw = b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"
    answer = streamed(OPENAI_COMPLETIONS, raw, cuts)
    assert answer == gather(OPENAI_COMPLETIONS.read(said(scores, "length", usage=usage)))
    assert (answer.text, answer.reason, answer.usage) == ("".join(t for t, _ in scores), "length", Usage(3, 0, 2, 0))
    assert [(token.token, token.logprob) for token in answer.logprobs] == scores


def test_a_completion_says_all_of_its_request() -> None:
    given = {"model": "m", "prompt": [5, 6], "max_tokens": 3, "echo": True, "logprobs": 2, "seed": 1, "stop": "x"}
    request = CompletionRequest.model_validate(given)
    check_expressible(request, OPENAI_COMPLETIONS.expresses, OPENAI_COMPLETIONS.name)
    assert OPENAI_COMPLETIONS.body(request) == given | {"stop": ["x"]}
    for more, word in (({"prompt": ["a", "b"]}, "prompt.many"), ({"n": 2}, "n:"), ({"top_k": 4}, "top_k")):
        with pytest.raises(NotExpressible, match=word):
            check_expressible(CompletionRequest.model_validate(given | more), OPENAI_COMPLETIONS.expresses, "x")


def test_log_probabilities_of_a_chat_come_before_their_text() -> None:
    entry = {"token": "a", "logprob": -1, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -0.5}]}
    choice = {"index": 0, "message": {"content": "a"}, "logprobs": {"content": [entry]}, "finish_reason": "stop"}
    events = OPENAI.read({"id": "x", "model": "m", "choices": [choice]})
    token = TokenLogprob("a", -1.0, (97,), (TokenLogprob("b", -0.5, None),))
    assert events[1:3] == [Logprobs((token,)), Content("a")]
    assert gather(events).logprobs == (token,)
    for broken in ({"logprob": True}, {"logprob": None}, {"bytes": [300]}, {"top_logprobs": {}}):
        choice["logprobs"] = {"content": [entry | broken]}
        with pytest.raises(MalformedAnswer):
            OPENAI.read({"id": "x", "model": "m", "choices": [choice]})


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    request = EmbeddingRequest.model_validate({"model": "m", "input": ["a", "b"], "encoding_format": "base64"})
    assert EMBEDDINGS.body(request) == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}
    data = [{"index": 1, "embedding": [0.5, 1]}, {"index": 0, "embedding": [-1.0, 2.0]}]
    said = {"model": "m-2", "data": data, "usage": {"prompt_tokens": 4}}
    assert EMBEDDINGS.read(said) == Embedded("m-2", [[-1.0, 2.0], [0.5, 1]], Usage(4, 0, 0, 0))
    values: list[object] = ["1", float("nan"), float("inf"), 1e200, -1e200]
    for broken in ([], [{"index": 1, "embedding": [1.0]}], *([{"index": 0, "embedding": [each]}] for each in values)):
        with pytest.raises(MalformedAnswer):
            EMBEDDINGS.read(said | {"data": broken})
    assert EMBEDDINGS.read(said | {"usage": []}).usage is None


def test_images_stand_in_their_places() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.example/x.png", "detail": "low"}}
    content = [{"type": "text", "text": "a"}, image, {"type": "text", "text": "b"}]
    given = {"model": "m", "messages": [{"role": "user", "content": content}]}
    request = ChatRequest.parse(json.dumps(given).encode(), images=True)
    assert OPENAI.body(request) == given
    with pytest.raises(NotExpressible, match=r"messages\.image_detail, messages\.image_urls"):
        check_expressible(request, INHOUSE.expresses, INHOUSE.name)


def test_images_in_results_of_tools_go_to_who_takes_them() -> None:
    """OpenAI's own API refuses them, with a status that blames the client."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": [image]},
    ]  # fmt: skip
    request = ChatRequest.parse(json.dumps({"model": "m", "messages": messages}).encode(), images=True)
    for adapter in (OPENAI, INHOUSE, GEMINI):
        with pytest.raises(NotExpressible, match=r"messages\.tool_images"):
            check_expressible(request, adapter.expresses, adapter.name)
    check_expressible(request, ANTHROPIC.expresses, ANTHROPIC.name)
    check_expressible(request, OPENAI.expresses, OPENAI.name, Capabilities(can=frozenset({"tool_images"})))


@pytest.mark.parametrize(
    ("said", "reason"), [("eos", "stop"), ("model_length", "length"), ("sensitive", "content_filter")]
)
def test_reasons_of_others_are_known(said: str, reason: str) -> None:
    choice = {"index": 0, "message": {"content": "a"}, "finish_reason": said}
    assert gather(OPENAI.read({"id": "x", "model": "m", "choices": [choice]})).reason == reason


def test_servers_of_ours_are_told_what_others_drop() -> None:
    more = {"top_k": 5, "min_p": 0.1, "thinking_token_budget": 9, "structured_outputs": {"regex": "a+"}}
    message = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
    given = {"model": "m", "messages": [{"role": "user", "content": "a"}, message, {"role": "user", "content": "c"}]}
    request = ChatRequest.model_validate(given | more)
    check_expressible(request, INHOUSE.expresses, INHOUSE.name)
    assert INHOUSE.body(request) == given | more
    with pytest.raises(NotExpressible, match=r"min_p, structured_outputs, thinking_tok"):
        check_expressible(request, OPENAI.expresses, OPENAI.name)


def _streamed(*deltas: dict, finish: str = "stop", empty: str | None = None, **fields: object) -> Answer:
    choices = [{"index": 0, "delta": delta, "finish_reason": empty} for delta in deltas]
    chunks = [{"id": "x", "choices": [choice]} for choice in [*choices, {"delta": {}, "finish_reason": finish}]]
    raw = b"".join(f"data: {json.dumps(chunk | fields)}\n\n".encode() for chunk in chunks) + b"data: [DONE]\n\n"
    return streamed(OPENAI, raw, [])


def _call(arguments: str, id: str | None = None, name: str | None = None, **fields: object) -> dict:
    return {"tool_calls": [{"id": id, "function": {"name": name, "arguments": arguments}} | fields]}


def test_calls_that_are_all_numbered_alike_are_kept_apart() -> None:
    """Gemini, and servers before it, as OpenAI's dialect: every call has the number 0, or none."""
    for fields in ({"index": 0}, {}):
        deltas = [_call('{"a"', "c1", "f", **fields), _call(": 1}", **fields), _call("{}", "c2", "f", **fields)]
        answer = _streamed(*deltas)
        assert [(call.id, call.function.arguments) for call in answer.calls] == [("c1", '{"a": 1}'), ("c2", "{}")]
    calls = [{"id": id, "index": 0, "function": {"name": "f", "arguments": "{}"}} for id in ("c1", "c2")]
    choice = {"index": 0, "message": {"tool_calls": calls}, "finish_reason": "stop"}
    whole = gather(OPENAI.read({"id": "x", "model": "m", "choices": [choice]}))
    assert [call.id for call in whole.calls] == ["c1", "c2"]
    assert whole.reason == answer.reason == "tool_calls"  # though it says stop


def test_an_empty_finish_reason_is_none() -> None:
    answer = _streamed({"content": "4"}, {"content": "2"}, empty="")
    assert (answer.text, answer.reason) == ("42", "stop")


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        # xAI counts thinking beside the answer
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 20,
          "completion_tokens_details": {"reasoning_tokens": 7}}, Usage(9, 0, 11, 7)),
        ({"prompt_tokens": 9, "completion_tokens": 14, "total_tokens": 23,
          "completion_tokens_details": {"reasoning_tokens": 7}}, Usage(9, 0, 14, 7)),
        # a gateway of others counts what was cached beside the prompt: it must never cost less than nothing
        ({"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 90}},
         Usage(93, 90, 4, 0)),
        ({"prompt_tokens": 90, "completion_tokens": 4, "prompt_cache_hit_tokens": 64}, Usage(90, 64, 4, 0)),  # DeepSeek
        ({}, None),
        # an answer is not lost for how it is counted
        ({"prompt_tokens": 9, "total_tokens": 9}, None),
        ({"prompt_tokens": 9, "completion_tokens": None}, None),
        ({"prompt_tokens": 9, "completion_tokens": -1}, None),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": []}, None),
        ([], None), ("none", None),
    ],
)  # fmt: skip
def test_usage_is_read_however_it_is_counted(said: object, usage: Usage | None) -> None:
    assert _streamed({"content": "a"}, usage=said).usage == usage


def test_usage_in_the_choice_counts() -> None:
    raw = b'data: {"id": "x", "choices": [{"delta": {"content": "a"}, "finish_reason": "stop", '
    raw += b'"usage": {"prompt_tokens": 5, "completion_tokens": 1}}]}\n\ndata: [DONE]\n\n'
    assert streamed(OPENAI, raw, []).usage == Usage(5, 0, 1, 0)  # Moonshot's
