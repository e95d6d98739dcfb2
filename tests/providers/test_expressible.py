"""What single models can and cannot beside the table of their dialect."""

import pytest

from inhouse.api.wire.chat import ChatRequest
from inhouse.providers.expressible import Capabilities, check_words, missing_parts
from inhouse.providers.openai import OPENAI

FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
ASKED = {"tools": [{"type": "function", "function": {"name": "add"}}], "response_format": FORM, "top_k": 3}


def missing(model: Capabilities, **fields: object) -> list[str]:
    request = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "a"}]} | fields)
    return missing_parts(request, OPENAI.expresses, model)


@pytest.mark.parametrize(
    ("can", "cannot", "parts"),
    [
        ((), (), ["top_k"]),
        (("top_k",), (), []),
        ((), ("tools", "json_schema"), ["response_format.json_schema", "tools", "top_k"]),
        (("top_k",), ("response_format",), ["response_format.json_schema"]),
        (("top_k",), ("images", "logprobs"), []),
    ],
)
def test_a_word_names_a_part_or_a_piece_of_it(can: tuple, cannot: tuple, parts: list[str]) -> None:
    assert missing(Capabilities(frozenset(can), frozenset(cannot)), **ASKED) == parts


def test_more_output_than_a_model_has_is_missing() -> None:
    model = Capabilities(max_output=100)
    assert missing(model, max_tokens=101) == ["more than 100 tokens of output"]
    assert missing(model, max_completion_tokens=100) == []


def test_a_prefill_is_declared() -> None:
    assert Capabilities(frozenset({"messages.prefill"})).can_prefill
    assert not Capabilities(frozenset({"top_k"})).can_prefill


def test_words_that_name_nothing_are_refused_with_the_nearest() -> None:
    check_words(["tools", "images", "response_format.json_schema", "top_k"])
    with pytest.raises(ValueError, match=r'"imags" is no part of a request: did you mean images\?'):
        check_words(["imags"])
