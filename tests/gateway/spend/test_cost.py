"""Costs: exact where the provider says what was used, within bounds where it does not."""

import pytest

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend.cost import Size, likely_cost, most_cost, size_of_chat, size_of_texts, spent
from inhouse.gateway.spend.price import written_price
from inhouse.gateway.spend.settings import PriceSettings
from inhouse.gateway.types import Attempt, Target

PRICE = written_price(PriceSettings(currency="USD", input=1.0, cached=0.1, output=4.0), "test")  # 1,000 nano a token
SIZE = Size(prompt=20, most_prompt=100, most_completion=50)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def attempt(outcome: str, usage: Usage | None = None, is_estimate: bool = False) -> Attempt:
    return Attempt(1, Target("a", "m", "m"), 0.0, 1.0, outcome, usage, is_estimate)


def request(**fields: object) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": [{"role": "user", "content": "Grüße"}]} | fields)  # type: ignore[arg-type]


def test_what_the_provider_said_is_exact() -> None:
    done = spent(PRICE, attempt("answered", Usage(40, 10, 5, 0)), SIZE)
    assert done == (30_000 + 1_000 + 20_000, 51_000, 51_000, PRICE.version)
    assert not done.is_estimate


@pytest.mark.parametrize("outcome", ["rate limit", "auth", "request", "context length", "not expressible"])
def test_what_is_refused_beforehand_costs_nothing(outcome: str) -> None:
    assert spent(PRICE, attempt(outcome), SIZE)[:3] == (0, 0, 0)


@pytest.mark.parametrize(
    "outcome", ["server", "timeout", "connection", "malformed answer", "abandoned", "client gone", ""]
)
def test_what_nobody_said_lies_within_bounds(outcome: str) -> None:
    done = spent(PRICE, attempt(outcome), SIZE, delivered=40)
    assert (done.low, done.high) == (0, 300_000)
    assert done.cost == 20_000 + 10 * 4_000
    assert done.is_estimate


def test_a_fault_before_the_first_word_is_likely_free() -> None:
    assert spent(PRICE, attempt("server"), SIZE).cost == 0
    assert spent(PRICE, attempt("client gone"), SIZE).cost == 20_000


def test_an_estimate_of_use_stays_one() -> None:
    done = spent(PRICE, attempt("client gone", Usage(20, 0, 1_000, 0), is_estimate=True), SIZE)
    assert done == (300_000, 0, 300_000, PRICE.version)


@pytest.mark.parametrize("outcome", ["rate limit", "server", "cut", "abandoned"])
def test_what_used_nothing_costs_not_even_the_price_of_a_request(outcome: str) -> None:
    each = written_price(PriceSettings(currency="USD", input=1.0, output=4.0, request=0.01), "test")
    assert spent(each, attempt(outcome, Usage(0, 0, 0, 0)), SIZE)[:3] == (0, 0, 0)
    assert spent(each, attempt("answered", Usage(1, 0, 1, 0)), SIZE).cost == 10_000_000 + 5_000


def test_a_use_that_cannot_be_is_not_believed() -> None:
    done = spent(PRICE, attempt("answered", Usage(2**52, 0, 5, 0)), SIZE)
    assert (done.cost, done.low, done.high) == (20_000, 0, 300_000)


def test_what_a_message_carries_beside_its_text_counts() -> None:
    call = {"id": "c" * 500, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [{"role": "assistant", "tool_calls": [call]}, {"role": "user", "content": "?", "name": "n" * 500}]
    assert size_of_chat(request(messages=said), None, None).most_prompt > 1_000


def test_a_prompt_has_no_more_tokens_than_bytes_and_what_stands_around() -> None:
    plain = size_of_chat(request(), None, None)
    assert plain.most_prompt == len("Grüße".encode()) + 16
    assert plain.prompt < plain.most_prompt
    with_tools = size_of_chat(request(tools=[TOOL]), None, None)
    assert with_tools.most_prompt > plain.most_prompt + 700


@pytest.mark.parametrize(
    ("fields", "max_output", "context", "most"),
    [
        ({}, None, None, 131_072),
        ({"max_tokens": 10**18}, None, None, 10**7),
        ({}, 4_000, 32_000, 4_000),
        ({}, None, 32_000, 32_000),
        ({"max_tokens": 7}, 4_000, None, 7),
        ({"max_tokens": 9, "max_completion_tokens": 8, "n": 3}, None, None, 24),
    ],
)
def test_an_answer_is_bound_by_who_says_less(fields: dict, max_output: int, context: int, most: int) -> None:
    assert size_of_chat(request(**fields), max_output, context).most_completion == most


def test_texts_and_ids_to_embed_cost_prompts_alone() -> None:
    size = size_of_texts(["abcd", [1, 2, 3]], most_completion=0)
    assert size.most_completion == 0
    assert size.most_prompt >= 4 + 3
    embeds = written_price(PriceSettings(currency="USD", input=0.02), "test")
    assert most_cost(embeds, size) > 0
    with pytest.raises(ValueError, match="it embeds"):
        most_cost(embeds, SIZE)


def test_what_is_likely_is_less_than_the_most() -> None:
    assert likely_cost(PRICE, SIZE, 10) == 60_000 < most_cost(PRICE, SIZE) == 300_000
