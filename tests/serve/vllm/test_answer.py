"""What vLLM is asked for."""

import pytest

from inhouse.engine.request import SamplingParams
from inhouse.serve.vllm.answer import Answer


def salted(tokenizer, salt):
    return Answer([1], SamplingParams(max_tokens=1), salt, tokenizer, {2}, 100).body().get("cache_salt")


@pytest.mark.parametrize("salt", ["key 1", "key 1\0mine", "é" * 1000])
def test_a_prefix_is_salted_there_too_and_the_salt_is_not_told(tokenizer, salt):
    said = salted(tokenizer, salt)
    assert said.isalnum() and len(said) == 64 and said == salted(tokenizer, salt) != salted(tokenizer, f"{salt} ")


def test_without_a_salt_all_share(tokenizer):
    assert salted(tokenizer, "") is None
