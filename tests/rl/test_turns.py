"""Turns and what tools give between them: one row of tokens, in which only the model's own are learnt."""

from collections import Counter

import numpy as np
import pytest
import torch
from tests.engine.conftest import MOE
from tests.rl.tiny_engine import new_engine, new_model, tokenizer

from inhouse.engine.request import Completion, Kept, SamplingParams
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_prompt
from inhouse.rl import turns
from inhouse.rl.turns import Answer, answer_all

PARAMS = SamplingParams(max_tokens=100, top_p=0.9, kept=True, experts=True)
CALL = 'I ask.\n<tool_call>\n{"name": "double", "arguments": {"x": 4}}\n</tool_call>'
ASKED = [{"role": "user", "content": "What is twice 4?"}]
RESULT = {"role": "tool", "content": "8 <|im_end|>"}


def use_tools(reply):
    return [RESULT] if "<tool_call>" in reply else []


def new_answer(params=PARAMS):
    prompt = encode_prompt(tokenizer(), ASKED)
    return Answer(prompt, ASKED, params, lambda turn: 10 + turn, use_tools)


def said(text, num_before, finish_reason="stop", end=None):
    """A turn behind so many tokens: each kept itself and the token after it, experts are the number of the turn."""
    ids = [*tokenizer().encode(text), tokenizer().end_of_turn if end is None else end]
    kept = Kept.of([np.array([token, token + 1], dtype=np.int32) for token in ids])
    experts = np.full((num_before + len(ids) - 1, 1, 2), num_before, dtype=np.int16)
    return Completion(0, ids, text, finish_reason, [], [-0.5] * len(ids), [], None, kept, experts, None)


def goes_on(answer, max_context=1_000):
    return answer.goes_on(tokenizer(), CHAT_TEMPLATE, max_context)


def test_what_a_tool_gives_stands_behind_the_call_as_the_template_has_it():
    answer = new_answer()
    first = said(CALL, len(answer.prompt))
    answer.take(first)
    assert goes_on(answer)
    conversation = [*ASKED, {"role": "assistant", "content": CALL}, RESULT]
    assert answer.ids == encode_prompt(tokenizer(), conversation)
    assert answer.params.seed == 11
    assert answer.params.max_tokens == 100 - len(first.token_ids)
    num_before = len(answer.ids)
    second = said("It is 8.", num_before)
    answer.take(second)
    assert not goes_on(answer)
    rollout = answer.rollout(3)
    assert rollout.prompt_ids + rollout.token_ids == answer.ids
    assert (rollout.earlier, rollout.text) == (CALL, "It is 8.")
    sampled = np.array(rollout.token_ids)[rollout.is_sampled]
    assert sampled.tolist() == first.token_ids + second.token_ids
    assert (rollout.sampler_logprobs == np.where(rollout.is_sampled, np.float32(-0.5), 0)).all()
    sets = np.split(rollout.kept.ids, rollout.kept.ends[:-1])
    assert [each.tolist() for each in sets] == [[token, token + 1] for token in sampled]
    assert len(rollout.experts) == len(answer.ids) - 1
    num_first = len(answer.prompt) + len(first.token_ids) - 1  # as they were chosen when they were sampled
    assert (rollout.experts[:num_first] == len(answer.prompt)).all()
    assert (rollout.experts[num_first:] == num_before).all()


@pytest.mark.parametrize(
    ("turn", "params", "max_context"),
    [
        ({"text": "It is 8."}, {}, 1_000),
        ({"text": CALL, "finish_reason": "length"}, {}, 1_000),
        ({"text": CALL, "end": 5}, {}, 1_000),  # the model has ended the document, not its turn
        ({"text": CALL}, {"max_tokens": 1}, 1_000),
        ({"text": CALL}, {}, 60),
    ],
)
def test_an_answer_ends_where_nothing_is_called_or_nothing_fits(turn, params, max_context):
    answer = new_answer(PARAMS.model_copy(update=params))
    answer.take(said(num_before=len(answer.prompt), **turn))
    ids = answer.ids
    assert not goes_on(answer, max_context)
    assert answer.ids == ids


def test_tools_are_asked_so_often_at_most():
    answer = new_answer(PARAMS.model_copy(update={"max_tokens": 10_000}))
    for number in range(turns.MOST_TURNS):
        answer.take(said(CALL, len(answer.ids)))
        assert goes_on(answer, 10_000) == (number < turns.MOST_TURNS - 1)


def test_a_template_that_writes_earlier_turns_otherwise_is_refused():
    template = "{{ messages|length }}" + CHAT_TEMPLATE
    answer = new_answer()
    answer.take(said(CALL, len(answer.prompt)))
    with pytest.raises(ValueError, match="sampling with tools needs one"):
        answer.goes_on(tokenizer(), template, 1_000)


def test_log_probabilities_and_experts_of_several_turns_are_the_models(monkeypatch):
    monkeypatch.setattr(turns, "_behind_the_turn", lambda *_: [11, 12, 13])
    model = new_model(MOE)
    prompt = encode_prompt(tokenizer(), ASKED)
    asked = Counter()

    def called_twice(number):
        def use(reply):
            asked[number] += 1
            return [RESULT] if asked[number] < 3 else []

        return use

    params = SamplingParams(max_tokens=60, experts=True)
    answers = [Answer(prompt, ASKED, params, lambda turn, n=n: 10 * n + turn, called_twice(n)) for n in range(4)]
    passes = []
    answer_all(new_engine(model), answers, CHAT_TEMPLATE, lambda: passes.append(1))
    rollouts = [answer.rollout(0) for answer in answers]
    assert max(asked.values()) == 3
    assert 3 <= len(passes) <= 60 + 3
    assert sum(not rollout.is_sampled.all() for rollout in rollouts) >= 3
    for rollout in rollouts:
        assert rollout.is_sampled.sum() <= 60
        assert rollout.kept is None
        with torch.no_grad():
            out = model(torch.tensor([prompt + rollout.token_ids]))
            logits_TV = model.logits(out.hidden_BTD)[0, len(prompt) - 1 : -1]
        logprobs = logits_TV.log_softmax(-1)[range(len(rollout.token_ids)), rollout.token_ids].numpy()
        assert rollout.sampler_logprobs == pytest.approx(np.where(rollout.is_sampled, logprobs, 0), abs=1e-5)
        chosen = torch.stack([layer.experts_NK for layer in out.routing], dim=1)[:-1].sort(-1)[0].numpy()
        assert (np.sort(rollout.experts) == chosen).all()
