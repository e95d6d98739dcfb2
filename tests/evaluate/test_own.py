"""Own conversations that were held out: what their answers cost in bits, and what the model answers instead."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.evaluate import own
from inhouse.evaluate.own import answers_bits_per_byte, ask, own_conversations, said
from inhouse.model.transformer import Transformer
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_conversation
from inhouse.posttrain.rows.encode import HELDOUT


def exchange(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def ignorant(model: Transformer) -> Transformer:
    """Each token is as likely as any other."""
    ignorant = copy.deepcopy(model)
    torch.nn.init.zeros_(ignorant.lm_head.weight)
    return ignorant


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), min_size=1, max_size=3))
def test_only_the_answers_are_charged_by_their_bytes(tokenizer: Tokenizer, ignorant: Transformer, turns) -> None:
    messages = [message for question, answer in turns for message in exchange(question, answer)]
    ids, is_answer = encode_conversation(tokenizer, messages)
    answers = [each for each, flag in zip(ids, is_answer, strict=True) if flag]
    score = answers_bits_per_byte(ignorant, tokenizer, [messages], CHAT_TEMPLATE)
    expected = len(answers) * math.log2(ignorant.config.vocab_size) / len(tokenizer.decode_bytes(answers))
    assert score is not None and score.value == pytest.approx(expected, rel=1e-5)


def test_it_is_the_models_own_likelihood_given_what_comes_before(tokenizer: Tokenizer, model: Transformer) -> None:
    messages = exchange("What is it?", "A parser.") + exchange("And that?", "A list.")
    ids, is_answer = encode_conversation(tokenizer, messages)
    with torch.no_grad():
        logs = model.logits(model(torch.tensor([ids])).hidden_BTD)[0].log_softmax(-1)
    nats = -sum(logs[at - 1, ids[at]].item() for at, flag in enumerate(is_answer) if flag)
    num_bytes = len(tokenizer.decode_bytes(each for each, flag in zip(ids, is_answer, strict=True) if flag))
    score = answers_bits_per_byte(model, tokenizer, [messages] * 3, CHAT_TEMPLATE)
    assert score is not None and score.value == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-4)
    assert score.count == 3


def test_what_the_context_does_not_reach_is_not_charged_nor_asked(tokenizer: Tokenizer, model: Transformer) -> None:
    long, short = exchange("Why? " * 300, "So."), exchange("Why?", "So.")
    assert answers_bits_per_byte(model, tokenizer, [long], CHAT_TEMPLATE) is None
    alone = answers_bits_per_byte(model, tokenizer, [short], CHAT_TEMPLATE)
    both = answers_bits_per_byte(model, tokenizer, [long, short], CHAT_TEMPLATE)
    assert both is not None and both == alone
    samples = ask(Engine(model, tokenizer), tokenizer, [long, short], 4, CHAT_TEMPLATE)
    assert [(sample.kind, sample.prompt, sample.expected) for sample in samples] == [("own", "Why?", "So.")]


def test_a_question_that_leaves_less_than_the_longest_answer_is_asked(tokenizer: Tokenizer, model: Transformer) -> None:
    """The preview's context is twice its longest answer: a question of half the context must not be passed over."""
    messages = exchange("Why? " * 40, "So.")
    engine = Engine(model, tokenizer)
    (sample,) = ask(engine, tokenizer, [messages], engine.max_context, CHAT_TEMPLATE)
    assert sample.prompt == messages[0]["content"]
    assert sample.is_right is None


def test_the_last_turn_is_asked_with_all_before_it(tokenizer: Tokenizer, model: Transformer) -> None:
    first, second = exchange("One?", "1"), exchange("Two?", "2")
    engine = Engine(model, tokenizer)
    together, alone = (
        ask(engine, tokenizer, [messages], 12, CHAT_TEMPLATE)[0] for messages in (first + second, second)
    )
    assert (together.prompt, together.expected) == (alone.prompt, alone.expected) == ("Two?", "2")
    assert together.reply != alone.reply
    nobody_asked = [{"role": "assistant", "content": "Hello."}]
    assert ask(engine, tokenizer, [nobody_asked], 4, CHAT_TEMPLATE) == []


def test_calls_are_shown(tokenizer: Tokenizer, model: Transformer) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    assert json.loads(said({"role": "assistant", "content": None, "tool_calls": [call]})) == call
    assert said({"role": "assistant", "content": "Let me see.", "tool_calls": [call]}).startswith("Let me see.\n{")
    assert said({"role": "assistant", "content": ""}) == ""


def test_a_folder_without_any_has_none_and_of_many_the_first_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_conversations(tmp_path) == ("own", [])
    lines = [json.dumps({"messages": exchange(str(number), "x")}) for number in range(5)]
    (tmp_path / HELDOUT).write_text("\n".join(lines))
    monkeypatch.setattr(own, "_MOST", 3)
    assert [messages[0]["content"] for messages in own_conversations(tmp_path)[1]] == ["0", "1", "2"]
