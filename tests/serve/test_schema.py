"""The bytes of responses against the published schema: each field that the client's own types require is there.

The client's models forgive what is missing; these tests read its types for what must be present, and add what the
published API marks as required but the client types as optional.
"""

import json

import httpx
import pytest
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

NAME = "tiny"
MESSAGES = [{"role": "user", "content": "Count."}]
# required in the published schema though nullable, so that the client's types cannot say so
NULLABLE = {
    "ChatCompletion.choices": {"logprobs"},
    "ChatCompletion.choices.message": {"content", "refusal"},
    "ChatCompletion.choices.logprobs": {"content", "refusal"},
    "ChatCompletion.choices.logprobs.content": {"bytes"},
    "ChatCompletionChunk.choices": {"finish_reason"},
    "ChatCompletionChunk.choices.logprobs": {"content", "refusal"},
    "Completion.choices": {"logprobs"},
}


def missing(value: object, kind: type[BaseModel], path: str) -> list[str]:
    """Paths of required fields that `value` (an object, or a list of them) does not have, all the way down."""
    found = []
    for item in value if isinstance(value, list) else [value]:
        required = {name for name, field in kind.model_fields.items() if field.is_required()}
        found += [f"{path}.{name}" for name in (required | NULLABLE.get(path, set())) - item.keys()]
        for name, part in item.items():
            inner = _model_in(kind.model_fields[name].annotation) if name in kind.model_fields else None
            if inner is not None and part is not None:
                found += missing(part, inner, f"{path}.{name}")
    return found


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The pydantic model inside of Optional[...] and List[...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in getattr(annotation, "__args__", ()) if (model := _model_in(part))), None)


def events(url: str, body: dict) -> list[str]:
    with httpx.stream("POST", url, json=body | {"stream": True}, timeout=180) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = response.read().decode()
    assert text.endswith("\n\n")
    parts = text.removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part.removeprefix("data: ") for part in parts]


BODIES = [
    ("/v1/chat/completions", {"messages": MESSAGES}, ChatCompletion, ChatCompletionChunk),
    ("/v1/chat/completions", {"messages": MESSAGES, "logprobs": True, "n": 2}, ChatCompletion, ChatCompletionChunk),
    ("/v1/completions", {"prompt": "a"}, Completion, Completion),
    ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 2, "echo": True}, Completion, Completion),
]


@pytest.mark.parametrize(("path", "body", "whole", "part"), BODIES)
def test_every_required_field_is_there(server, path, body, whole, part):
    body = body | {"model": NAME, "max_tokens": 5, "seed": 0}
    answer = server.post(path, body).json()
    assert missing(answer, whole, whole.__name__) == []
    assert answer["usage"]["completion_tokens"] >= 1
    *chunks, done = events(server.url + path, body)
    assert done == "[DONE]"
    finished = set()
    for chunk in map(json.loads, chunks):
        assert missing(chunk, part, part.__name__) == []
        assert {key: chunk[key] for key in ("id", "created", "model")} == {
            key: json.loads(chunks[0])[key] for key in ("id", "created", "model")
        }
        (choice,) = chunk["choices"]
        assert "finish_reason" in choice and "logprobs" in choice and "usage" not in chunk
        assert choice["index"] not in finished
        if choice["finish_reason"] is not None:
            finished.add(choice["index"])
    assert finished == {choice["index"] for choice in answer["choices"]}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_usage_is_one_last_chunk(server, path):
    body = {"model": NAME, "max_tokens": 4, "stream_options": {"include_usage": True}}
    body |= {"messages": MESSAGES} if "chat" in path else {"prompt": "a"}
    *chunks, done = events(server.url + path, body)
    *chunks, last = map(json.loads, chunks)
    assert done == "[DONE]"
    assert last["choices"] == [] and last["usage"]["total_tokens"] > 0
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in chunks)


def test_the_first_chunk_of_a_chat_names_the_role(server):
    first = json.loads(events(f"{server.url}/v1/chat/completions", {"model": NAME, "messages": MESSAGES, "n": 1})[0])
    assert first["choices"][0]["delta"]["role"] == "assistant"


def test_models(server):
    listed = server.get("/v1/models").json()
    assert listed["object"] == "list"
    assert missing(listed["data"], Model, "Model") == []


def test_errors_carry_all_four_fields(server):
    for path, body in (("/v1/completions", {}), ("/nowhere", {}), ("/v1/models", {}), ("/v1/completions", [])):
        error = server.post(path, body).json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
