"""Drafts change how many tokens a step gives, and nothing about the tokens, whoever drafts them."""

import json
import re

import llguidance
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import ByteTokenizer

from inhouse.engine.drafts import speculator
from inhouse.engine.drafts.draft_model import DraftModel
from inhouse.engine.drafts.pace import Pace
from inhouse.engine.drafts.prompt_lookup import PromptLookup
from inhouse.engine.engine import Engine
from inhouse.engine.grammar import choice, grammar, json_schema, regex
from inhouse.engine.request import Failure, SamplingParams
from inhouse.engine.settings import EngineSettings

GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
PERSON = grammar(
    json_schema(
        {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [7, 77]}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
    )
)
WAYS = [
    {"temperature": 0},
    {},
    {"temperature": 0.7, "top_k": 5, "top_p": 0.8},
    {"min_p": 0.05, "logprobs": 3, "prompt_logprobs": True},
    {"presence_penalty": 1.5, "frequency_penalty": 1.0, "repetition_penalty": 1.3},
    {"temperature": 0, "frequency_penalty": 2.0, "experts": True},
    {"logit_bias": {65: 4.0, 66: 4.0}, "stop": ("AB", "BBB")},
    {"temperature": 0.3, "stop_token_ids": tuple(range(40)), "min_tokens": 6},
    {"grammar": PERSON},
    {"grammar": grammar(regex("(ab|c){2,9}")), "temperature": 2.0},
    {"grammar": grammar(choice(["seven", "several"])), "min_tokens": 9, "ignore_eos": True},
    {"max_tokens": 1},
    {"max_tokens": 70, "ignore_eos": True, "experts": True},
]


def params(number, way):
    return SamplingParams(**({"max_tokens": 24, "seed": number} | way))


def same(found, expected):
    assert (found.token_ids, found.text, found.finish_reason) == (
        expected.token_ids,
        expected.text,
        expected.finish_reason,
    )
    assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert found.sampling_logprobs == pytest.approx(expected.sampling_logprobs, abs=1e-3)
    for ours, theirs in zip(found.top_logprobs, expected.top_logprobs, strict=True):
        assert [p for _, p in ours] == pytest.approx([p for _, p in theirs], abs=1e-4)
    assert (found.prompt_logprobs is None) == (expected.prompt_logprobs is None)
    assert (found.experts is None) == (expected.experts is None)
    if expected.experts is not None:
        assert torch.from_numpy(found.experts).sort(-1)[0].equal(torch.from_numpy(expected.experts).sort(-1)[0])


def told(monkeypatch, known, wrong=lambda place: False):
    """Drafts are what follows in `known`, prompts with their answers, but for the places that are `wrong`."""

    def propose(self, tokens, most):
        following = next((each for each in known if each[: len(tokens)] == tokens), [])
        draft = following[len(tokens) : len(tokens) + most]
        return [(token + 1) % 256 if wrong(len(tokens) + i) else token for i, token in enumerate(draft)]

    monkeypatch.setattr(PromptLookup, "propose", propose)
    monkeypatch.setattr(speculator, "Pace", Unhurried)


class Unhurried:
    """As `Pace`, whatever becomes of drafts."""

    most = 1000

    def is_waiting(self):
        return False

    def observe(self, num_proposed, num_accepted):
        pass


def count_steps(engine, prompt, own):
    engine.add(prompt, own)
    outputs, steps = [], 0
    while not outputs or outputs[-1].completion is None:
        outputs += engine.step()
        steps += 1
    return outputs, steps


@pytest.mark.parametrize(("kind", "rows"), [("dense", 16), ("moe", 500), ("local", 500)])
def test_answers_are_those_without(kind, rows, new_engine, prompts, monkeypatch):
    """Every way to sample, with drafts that are partly right, beside each other and in few pages."""
    monkeypatch.setattr(speculator, "_ROWS", rows)
    asked = [(prompts[i % len(prompts)] or [1], params(i, way)) for i, way in enumerate(WAYS)]
    wanted = [prompt for prompt, _ in asked], [own for _, own in asked]
    expected = new_engine(kind).generate(*wanted)
    answers = [prompt + each.token_ids for (prompt, _), each in zip(asked, expected, strict=True)]
    told(monkeypatch, answers, wrong=lambda place: place % 5 == 0 or place % 7 == 0)
    for limits in ({"page_size": 4, "max_sequences": 5, "max_prefill": 9}, {"page_size": 8, "num_pages": 18}):
        engine = new_engine(kind, speculation="ngram", **limits)
        for found, own in zip(engine.generate(*wanted), expected, strict=True):
            same(found, own)
        assert 0 < engine.num_accepted < engine.num_drafted
        assert engine.pages_in_use == engine.num_running == 0


def test_whatever_is_drafted_the_tokens_are_the_same(models):
    engines = [
        (Engine(models["dense"], ByteTokenizer(), EngineSettings(max_sequences=3)),
         Engine(models["dense"], ByteTokenizer(), EngineSettings(max_sequences=3, page_size=size, speculation="ngram")))
        for size in (1, 3, 16)
    ]  # fmt: skip

    @settings(max_examples=15, deadline=None)
    @given(data=st.data())
    def check(data):
        plain, engine = data.draw(st.sampled_from(engines))
        own = [params(i, data.draw(st.sampled_from(WAYS))) for i in range(3)]
        asked = [data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=20)) for _ in own]
        expected = plain.generate(asked, own)
        answers = [prompt + each.token_ids for prompt, each in zip(asked, expected, strict=True)]
        engine._speculator._most = data.draw(st.integers(1, 12))
        with pytest.MonkeyPatch.context() as monkeypatch:
            told(monkeypatch, answers, wrong=lambda place: data.draw(st.sampled_from([False, False, True])))
            for found, each in zip(engine.generate(asked, own), expected, strict=True):
                same(found, each)
        assert engine.pages_in_use == engine.num_running == 0

    check()


@pytest.mark.parametrize("way", [{"temperature": 0}, {"temperature": 1.0, "top_p": 0.9}])
def test_right_drafts_take_as_many_steps_as_there_are_drafts(way, new_engine, prompts, monkeypatch):
    own = SamplingParams(max_tokens=37, seed=5, ignore_eos=True, **way)
    plain, steps = count_steps(new_engine(), prompts[4], own)
    assert steps == 37
    told(monkeypatch, [prompts[4] + plain[-1].completion.token_ids])
    engine = new_engine(speculation="ngram", draft_tokens=8)
    outputs, steps = count_steps(engine, prompts[4], own)
    assert steps == 1 + 36 / 9
    assert [output.token for output in outputs] == [output.token for output in plain]
    assert [(output.text, output.text_end) for output in outputs] == [(o.text, o.text_end) for o in plain]
    assert engine.num_accepted == engine.num_drafted == 4 * 8


def test_wrong_drafts_are_given_up(new_engine, models, naive, prompts, monkeypatch):
    """The pace is that of the lookup; what it finds is always wrong."""
    find, given = PromptLookup._find, []

    def misled(self):
        find(self)
        self._tokens[self._length - 1] = 255 - self._tokens[self._length - 1] % 200
        given.append(self._length)
        return self._length - 1

    monkeypatch.setattr(PromptLookup, "_find", misled)
    engine = new_engine(speculation="ngram")
    completion = engine.generate([prompts[1]], GREEDY.model_copy(update={"max_tokens": 100}))[0]
    assert completion.token_ids == naive("dense", prompts[1], 100)
    assert engine.num_accepted <= 2 and len(given) < 15


def test_a_text_that_repeats_itself_takes_fewer_steps(new_engine, naive):
    """Tiny models end in a circle when they are greedy."""
    expected = naive("dense", [5, 6, 7], 100)
    engine = new_engine(speculation="ngram")
    outputs, steps = count_steps(engine, [5, 6, 7], GREEDY.model_copy(update={"max_tokens": 100}))
    assert [output.token for output in outputs] == expected
    assert steps < 60 and engine.num_accepted > 40


def test_what_a_grammar_forces_is_one_step(new_engine):
    plain, engine = new_engine(), new_engine(speculation="ngram", draft_tokens=20)
    own = SamplingParams(max_tokens=60, grammar=grammar(regex('\\{"forename": "a{2,3}", "surname": "b"\\}')), seed=1)
    expected, slow = count_steps(plain, [5], own)
    outputs, steps = count_steps(engine, [5], own)
    assert [output.token for output in outputs] == [output.token for output in expected]
    assert steps < slow / 4
    assert json.loads(outputs[-1].completion.text)["surname"] == "b"


def test_a_draft_ends_where_its_grammar_does(new_engine, monkeypatch):
    """What the grammar does not allow is not computed; nothing follows the end."""
    monkeypatch.setattr(PromptLookup, "propose", lambda self, tokens, most: list(b"abxyz")[:most])
    seen = []
    engine = new_engine(speculation="ngram")
    run = engine._runner.run
    engine._runner.run = lambda scheduled: (seen.extend(item.draft for item in scheduled), run(scheduled))[1]
    own = SamplingParams(max_tokens=9, grammar=grammar(regex("(q|ab)(q|ab)(q|r)")), logit_bias={ord("a"): 100})
    completion = engine.generate([[5]], own)[0]
    assert completion.text[:-1] == "abab" and completion.finish_reason == "stop"
    assert seen[0] == () and set(seen) <= {(), tuple(b"ab"), tuple(b"b")}


@pytest.mark.parametrize("pattern", ["[wx]{2}[a-z]{2}", "[wx]{2}[vy][a-z]"])
def test_an_end_in_a_draft_of_a_grammar_is_none_though_ends_are_ignored(pattern, new_engine):
    """Which the matcher would take for the end of the answer, and could not take back."""
    prompt = [*b"wxyz", ByteTokenizer.end_of_document] * 3
    own = {"max_tokens": 12, "ignore_eos": True, "grammar": grammar(regex(pattern))}
    params = [SamplingParams(seed=seed, logit_bias={ord("w"): 40, ord("x"): 40}, **own) for seed in range(8)]
    found = [
        [each.text for each in new_engine(page_size=4, speculation=speculation).generate([prompt] * 8, params)]
        for speculation in ("none", "ngram")
    ]
    assert found[0] == found[1] and all(re.fullmatch(pattern, text) for text in found[1])


def test_what_a_grammar_meets_on_a_refused_draft_is_forgotten(new_engine):
    matcher = new_engine().grammars.matcher(grammar(regex("(a|b)c")))
    before, *_ = matcher.masks([])
    for draft in (list(b"ac"), list(b"a"), [*b"bc", 256, 256]):
        assert len(matcher.masks(draft)) == len(draft) + 1
    assert np.array_equal(matcher.mask().bits, before.bits) and not matcher.mask().error
    assert not matcher.take(ord("b")) and matcher.take(ord("c"))


def test_a_grammar_that_gets_too_complex_in_a_draft_costs_its_own_request(new_engine, monkeypatch):
    monkeypatch.setattr(
        "inhouse.engine.grammar_trial.LIMITS", llguidance.LLParserLimits(max_lexer_states=1000, verbose_errors=False)
    )
    monkeypatch.setattr(PromptLookup, "propose", lambda self, tokens, most: list(b"abbaabab")[:most])
    engine, hard = new_engine(speculation="ngram"), grammar(regex("(a|b)*a(a|b){90}"))
    ids = {
        engine.add([5], SamplingParams(max_tokens=80, grammar=hard, seed=seed, temperature=50)): seed
        for seed in range(8)
    }
    easy, outputs = engine.add([5], SamplingParams(max_tokens=60, grammar=PERSON, seed=1)), []
    while engine.num_running or not outputs:
        outputs += engine.step()
    failed = {output.id for output in outputs if isinstance(output, Failure)}
    assert failed and failed <= ids.keys()
    assert json.loads("".join(o.text for o in outputs if o.id == easy))["age"] in (7, 77)


def test_nothing_follows_what_ends_an_answer(new_engine, naive, prompts, monkeypatch):
    greedy = naive("dense", prompts[4], 40)
    told(monkeypatch, [prompts[4] + greedy])
    stop = next(token for token in greedy[3:] if token not in greedy[:3])
    end = greedy.index(stop)
    engine = new_engine(speculation="ngram")
    outputs, _ = count_steps(engine, prompts[4], GREEDY.model_copy(update={"stop_token_ids": (stop,)}))
    assert outputs[-1].finish_reason == "stop" and [output.token for output in outputs] == greedy[: end + 1]
    outputs, _ = count_steps(engine, prompts[4], GREEDY.model_copy(update={"max_tokens": 11}))
    assert outputs[-1].finish_reason == "length" and [output.token for output in outputs] == greedy[:11]
    assert engine.pages_in_use == 0


@pytest.mark.parametrize("num_pages", [None, 3])
def test_drafts_end_with_the_context(num_pages, new_engine, naive, monkeypatch):
    length = 128 if num_pages is None else 48
    greedy = naive("dense", [7] * (length - 12), 12)
    told(monkeypatch, [[7] * (length - 12) + greedy + [1] * 9])
    engine = new_engine(num_pages=num_pages, speculation="ngram")
    outputs, steps = count_steps(engine, [7] * (length - 12), GREEDY.model_copy(update={"max_tokens": 1000}))
    assert [output.token for output in outputs] == greedy and steps == 3
    assert outputs[-1].finish_reason == "length" and engine.pages_in_use == 0


def test_pages_hold_what_was_accepted_and_others_find_it(new_engine, naive, prompts, monkeypatch):
    greedy = naive("dense", prompts[-1], 30)
    told(monkeypatch, [prompts[-1] + greedy], wrong=lambda place: place % 6 == 0)
    engine = new_engine(page_size=4, speculation="ngram")
    engine.generate([prompts[-1]], GREEDY.model_copy(update={"max_tokens": 24}))
    longer = prompts[-1] + greedy[:23] + [9, 9]
    monkeypatch.setattr(PromptLookup, "propose", lambda self, tokens, most: [])
    outputs, _ = count_steps(engine, longer, GREEDY)
    assert outputs[0].num_cached == 63  # all that were computed
    assert [output.token for output in outputs] == naive("dense", longer, 12)


def test_drafts_take_free_pages_only(new_engine, prompts, monkeypatch):
    monkeypatch.setattr(PromptLookup, "propose", lambda self, tokens, most: [1] * most)
    engine = new_engine(num_pages=10, page_size=4, speculation="ngram")
    sent_back, send_back = [], engine._scheduler.send_back
    engine._scheduler.send_back = lambda sequence: (sent_back.append(sequence), send_back(sequence))
    first, second = (engine.add(prompts[3], GREEDY.model_copy(update={"max_tokens": 3})) for _ in range(2))
    ended = []
    while len(ended) < 2:
        ended += [output.id for output in engine.step() if output.completion]
        held = {page for sequence in engine._scheduler.running for page in sequence.pages}
        assert engine.pages_in_use == len(held) <= 10
    assert not sent_back and sorted(ended) == [first, second]


@pytest.mark.parametrize("harm", ["crash", "nan"])
def test_a_failure_costs_itself_alone(harm, new_engine, naive, prompts, monkeypatch):
    """A pass that fails for its draft is repeated without; an output that is no number ends its request."""
    answers = {i: naive("dense", prompts[i], 12) for i in (3, 4, 5)}
    told(monkeypatch, [prompts[i] + answer for i, answer in answers.items()])
    engine = new_engine(speculation="ngram")
    ids = {engine.add(prompts[i], GREEDY): i for i in answers}
    bad, run = next(each for each, i in ids.items() if i == 4), engine._runner.run

    def harmed(scheduled):
        hit = [item for item in scheduled if item.sequence.id == bad and item.draft]
        if hit and harm == "crash":
            raise RuntimeError("a kernel does not like this")
        sequences, logits, totals = run(scheduled)
        if hit:
            counts = [len(item.draft) + 1 for item in scheduled]
            place = [item.sequence.id for item in scheduled].index(bad)
            totals = totals.clone()
            totals[sum(counts[:place]) + 2] = torch.nan
        return sequences, logits, totals

    monkeypatch.setattr(engine._runner, "run", harmed)
    found = {}
    while len(found) < 3:
        found |= {o.id: o for o in engine.step() if isinstance(o, Failure) or o.completion}
    failed = [each for each, output in found.items() if isinstance(output, Failure)]
    assert failed == ([bad] if harm == "nan" else [])
    for each in found.keys() - failed:
        assert found[each].completion.token_ids == answers[ids[each]]
    assert engine.pages_in_use == engine.num_running == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 5))
def test_the_lookup_finds_the_longest_match(tokens, most):
    lookup = PromptLookup()
    lookup.propose(tokens[: (len(tokens) + 1) // 2], 1)
    draft = lookup.propose(tokens, most)

    def matched(end):
        """How many tokens up to `end` are those at the end of all."""
        return next((n for n in range(8) if end - n < 1 or tokens[end - n - 1] != tokens[-n - 1]), 8)

    best = max(((matched(end), end) for end in range(1, len(tokens))), default=(0, 0))
    if best[0] < 2:
        assert draft == []
    else:
        following = tokens[best[1] :]
        assert draft == [following[i % len(following)] for i in range(most)]


def test_the_pace_follows_what_is_right():
    pace, lengths = Pace(), []
    for right in (4, 8, 3, 0, 0):
        lengths.append(pace.most)
        pace.observe(lengths[-1], min(right, lengths[-1]))
    assert lengths == [4, 8, 16, 3, 1]
    pauses = []
    for _ in range(6):
        pauses.append(0)
        while pace.is_waiting():
            pauses[-1] += 1
        pace.observe(1, 0)
    assert pauses == [4, 8, 16, 32, 64, 64]


class Told:
    """Drafts as `Drafter` gives them: what follows in `known`, or something else."""

    def __init__(self, known, wrong=lambda place: False):
        self.known, self.wrong, self.asked = known, wrong, []

    def propose(self, wanted):
        self.asked.append(len(wanted))
        return {sequence: self._of(sequence.tokens, most) for sequence, most in wanted.items()}

    def _of(self, tokens, most):
        following = next((each for each in self.known if each[: len(tokens)] == tokens), [])
        draft = following[len(tokens) : len(tokens) + most]
        return [(token + 1) % 256 if self.wrong(len(tokens) + i) else token for i, token in enumerate(draft)]


def drafting(model, draft, **limits):
    engine = Engine(draft, ByteTokenizer(), EngineSettings(max_sequences=8, **limits))
    settings = EngineSettings(max_sequences=8, speculation="model", draft_model="unread", **limits)
    return Engine(model, ByteTokenizer(), settings, drafter=DraftModel(engine)), engine


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_model_that_drafts_for_itself_is_right(kind, models, prompts):
    plain = Engine(models[kind], ByteTokenizer(), EngineSettings(max_sequences=8))
    engine, drafts = drafting(models[kind], models[kind], page_size=4)
    own = [SamplingParams(max_tokens=n, temperature=0, ignore_eos=True) for n in (5, 20, 33, 1, 40)]
    expected = plain.generate(prompts[:5], own)
    for found, each in zip(engine.generate(prompts[:5], own), expected, strict=True):
        same(found, each)
    assert engine.num_accepted >= 0.9 * engine.num_drafted > 40  # two that are equally likely may change places
    assert drafts.pages_in_use == drafts.num_running == 0


def test_whatever_another_model_drafts_the_answers_are_the_same(models, prompts):
    plain = Engine(models["dense"], ByteTokenizer(), EngineSettings(max_sequences=8))
    engine, _ = drafting(models["dense"], models["local"])
    asked = [(prompts[i % len(prompts)] or [1], params(i, way)) for i, way in enumerate(WAYS)]
    wanted = [prompt for prompt, _ in asked], [own for _, own in asked]
    for found, each in zip(engine.generate(*wanted), plain.generate(*wanted), strict=True):
        same(found, each)
    assert engine.num_drafted > 0


def test_all_that_decode_are_asked_for_together(models, prompts):
    told_ = Told([])
    settings = EngineSettings(max_sequences=8, speculation="model", draft_model="unread")
    engine = Engine(models["dense"], ByteTokenizer(), settings, drafter=told_)
    engine.generate(prompts[:4], GREEDY)
    assert max(told_.asked) == 4


def test_a_draft_model_that_fails_costs_its_drafts_alone(models, prompts, naive, monkeypatch):
    engine, drafts = drafting(models["dense"], models["dense"])
    run, times = drafts._runner.run, iter(range(1000))

    def sometimes(scheduled):
        if next(times) % 3 == 1:
            raise MemoryError("none left")
        return run(scheduled)

    monkeypatch.setattr(drafts._runner, "run", sometimes)
    monkeypatch.setattr(drafts, "_check_alive", lambda error: (_ for _ in ()).throw(error))
    found = engine.generate([prompts[4]], GREEDY.model_copy(update={"max_tokens": 30}))[0]
    assert found.token_ids == naive("dense", prompts[4], 30)
    assert drafts.pages_in_use == drafts.num_running == 0 and engine.num_accepted > 0


def test_a_context_beyond_that_of_the_draft_model_goes_on_without(models, naive, monkeypatch):
    engine, drafts = drafting(models["dense"], models["dense"])
    monkeypatch.setattr(drafts, "max_context", 40)
    found = engine.generate([[7] * 30], GREEDY.model_copy(update={"max_tokens": 40}))[0]
    assert found.token_ids == naive("dense", [7] * 30, 40)
    assert 0 < engine.num_drafted <= 12


def test_what_drafts_and_the_setting_go_together(models):
    for own in ({"speculation": "model"}, {"draft_model": "somewhere"}, {"speculation": "ngram", "draft_model": "x"}):
        with pytest.raises(ValueError, match="go together"):
            EngineSettings(**own)
    with pytest.raises(ValueError, match="go together"):
        Engine(models["dense"], ByteTokenizer(), EngineSettings(), drafter=Told([]))
