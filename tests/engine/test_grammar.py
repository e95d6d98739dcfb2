"""Answers that a grammar bounds: they match it, end where it ends, and change nothing for those beside them."""

import json
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor

import llguidance
import pytest

from inhouse.engine.grammar import choice, grammar, json_schema, lark, regex
from inhouse.engine.request import Failure, SamplingParams

END = 257
PERSON = grammar(
    json_schema(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 5},
                "age": {"type": "integer", "maximum": 99, "minimum": 0},
            },
            "required": ["name", "age"],
            "additionalProperties": False,
        }
    )
)


@pytest.mark.parametrize("error", ["", "no such rule"])
def test_many_with_one_new_grammar_share_its_trial(new_engine, monkeypatch, error):
    """However long it takes: a batch begins with hundreds of requests of one schema."""
    engine, tried, text = new_engine(), [], grammar(json_schema({"type": "object", "title": f"new {error}"}))

    def trial(*asked):
        tried.append(asked)
        time.sleep(0.5)  # longer than anybody waits for a place
        return error

    def check(_):
        try:
            engine.grammars.check(text)
        except ValueError as refusal:
            return str(refusal)
        return ""

    monkeypatch.setattr("inhouse.engine.grammar_trial.trial", trial)
    monkeypatch.setattr("inhouse.engine.grammar._PATIENCE", 0.1)
    with ThreadPoolExecutor(30) as pool:
        assert list(pool.map(check, range(30))) == [error] * 30
    assert len(tried) == 1


def params(text, **more):
    return SamplingParams(**({"max_tokens": 60, "grammar": text} | more))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0},
        {"temperature": 2.0, "top_p": 0.5},
        {"top_k": 3, "min_p": 0.1},
        {"presence_penalty": 2.0, "frequency_penalty": 2.0, "repetition_penalty": 2.0},
        {"logit_bias": {ord("x"): 100, ord("}"): -100}},
        {"min_tokens": 50},
        {"ignore_eos": True},
    ],
)
def test_every_answer_is_what_the_grammar_says(new_engine, more):
    completions = new_engine().generate([[1, 2]] * 4, [params(PERSON, seed=seed, **more) for seed in range(4)])
    for completion in completions:
        found = json.loads(completion.text)
        assert completion.finish_reason == "stop"
        assert list(found) == ["name", "age"] and len(found["name"]) <= 5 and 0 <= found["age"] <= 99


@pytest.mark.parametrize("more", [{}, {"ignore_eos": True}, {"min_tokens": 9}])
def test_an_end_is_drawn_only_where_the_grammar_may_end(new_engine, more):
    for seed in range(6):
        (completion,) = new_engine().generate([[5]], params(grammar(regex("ab?c{0,3}")), seed=seed, **more))
        assert completion.finish_reason == "stop"
        assert re.fullmatch("ab?c{0,3}", completion.text)
        if more:  # nothing but an end is left
            assert completion.text.endswith("ccc")


def test_a_choice_and_a_grammar(new_engine):
    engine = new_engine()
    assert engine.generate([[5]], params(grammar(choice(["yes\n", 'né"o']))))[0].text in ("yes\n", 'né"o')
    (completion,) = engine.generate([[5]], params(grammar(lark('start: "a" b\nb: "(" b ")" | "x"')), temperature=0.1))
    assert re.fullmatch(r"a\(*x\)*", completion.text)
    whole = grammar(lark('start: "<" @one ">"'), one=regex("[0-9]{3}"))
    assert re.fullmatch("<[0-9]{3}>", engine.generate([[5]], params(whole))[0].text)


def test_a_seed_gives_the_same_alone_and_among_others_and_when_sent_back(new_engine, prompts):
    bound = [params(PERSON, seed=number) for number in range(len(prompts))]
    alone = [new_engine().generate([prompt], own)[0].token_ids for prompt, own in zip(prompts, bound, strict=True)]
    free = SamplingParams(max_tokens=30, seed=3)
    together = new_engine().generate([*prompts, *prompts], [*bound, *[free] * len(prompts)])
    assert [completion.token_ids for completion in together[: len(prompts)]] == alone
    narrow = new_engine(num_pages=8, max_sequences=4)
    assert [completion.token_ids for completion in narrow.generate(prompts, bound)] == alone
    assert [each.token_ids for each in new_engine().generate(prompts, free)] == [
        each.token_ids for each in together[len(prompts) :]
    ]


def test_log_probabilities_are_the_models_and_those_of_the_draw(new_engine):
    (completion,) = new_engine().generate([[5]], params(grammar(choice(["a", "b"])), logprobs=300, seed=1))
    known = dict(completion.top_logprobs[0])
    a, b, drawn = known[ord("a")], known[ord("b")], known[completion.token_ids[0]]
    assert completion.logprobs[0] == pytest.approx(drawn, abs=1e-5)

    assert completion.sampling_logprobs[0] == pytest.approx(drawn - math.log(math.exp(a) + math.exp(b)), abs=1e-4)


def test_a_length_and_a_stop_string_still_end_it(new_engine):
    engine = new_engine()
    (completion,) = engine.generate([[5]], params(grammar(regex("a{50}")), max_tokens=7))
    assert (completion.text, completion.finish_reason) == ("a" * 7, "length")
    (completion,) = engine.generate([[5]], params(grammar(regex("a{3}b")), stop=("ab",)))
    assert (completion.text, completion.finish_reason) == ("aa", "stop")


@pytest.mark.parametrize(
    "text",
    [
        lark('start: "x" a{1000}\na: b{1000}\nb: c{1000}\nc: "x"'),
        lark('start: "x"{1000000000}'),
        json_schema({"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(3000)}}),
    ],
)
def test_a_grammar_that_gets_too_complex_costs_only_its_own_request(new_engine, text):
    engine, known = new_engine(), list(range(40))
    engine.generate([known], SamplingParams(max_tokens=1))
    hard = engine.add([5], params(grammar(text), logit_bias={ord('"'): 100}))
    easy = engine.add([5], params(PERSON, seed=1))
    outputs = []
    while engine.num_running or not outputs:
        outputs += engine.step()
    (failure,) = [output for output in outputs if isinstance(output, Failure)]
    assert failure.id == hard and failure.is_asked_for
    assert outputs[-1].id == easy and outputs[-1].finish_reason == "stop"
    (again,) = engine.stream(known, SamplingParams(max_tokens=1))
    assert again.num_cached == 39, "nobody's prefix was forgotten for it"


def test_a_grammar_whose_states_are_used_up_is_compiled_anew(new_engine, monkeypatch):
    limits = llguidance.LLParserLimits(max_lexer_states=1000, verbose_errors=False)
    monkeypatch.setattr("inhouse.engine.grammar_trial.LIMITS", limits)
    engine, failed = new_engine(), []
    for seed in range(30):
        try:
            engine.generate([[1]], params(grammar(regex("(a|b)*a(a|b){90}")), max_tokens=80, seed=seed, temperature=50))
        except RuntimeError:
            failed.append(seed)
    assert failed and all(seed - 1 not in failed for seed in failed)


def nested(depth):
    schema = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize("new_engine", ["plain"], indirect=True)  # grammars are compiled alike for both
@pytest.mark.parametrize(
    "text",
    [
        lambda: grammar(regex("a(?=b)")),
        lambda: grammar(regex("(" * 5000)),
        lambda: grammar(regex("(" * 5000 + "a" + ")" * 5000)),
        lambda: grammar(json_schema(nested(400))),
        lambda: grammar(json_schema({"$ref": "#"})),
        lambda: grammar(json_schema({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}})),
        lambda: grammar(json_schema({"$ref": "https://example.com/schema.json"})),
        lambda: grammar(json_schema({"type": "string", "pattern": "^(?!a)b"})),
        lambda: grammar(json_schema({"type": "string", "minLength": 5, "maxLength": 2})),
        lambda: grammar(json_schema({"type": "integer", "multipleOf": 100_000_007})),
        lambda: grammar(json_schema({"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]})),
        lambda: grammar(lark('start: %json {"type": "integer", "multipleOf": 100000007}')),
        lambda: grammar(json_schema({"allOf": [{"type": "string", "pattern": f"a{i}.*b"} for i in range(40)]})),
        lambda: grammar(json_schema({"multipleOf": 1e-300})),
        lambda: grammar(json_schema({"type": "nothing"})),
        lambda: grammar(lark("start: nowhere")),
        lambda: grammar(lark("start: " + "(" * 5000 + '"a"' + ")" * 5000)),
        lambda: "no JSON",
        lambda: "{}",
    ],
)
def test_what_cannot_be_followed_is_refused_in_time(new_engine, text, monkeypatch):
    monkeypatch.setattr("inhouse.engine.grammar_trial.CPU_SECONDS", 1)
    engine = new_engine()
    with pytest.raises(ValueError, match=r"."):
        engine.grammars.check(text())
    assert engine.generate([[1]], params(grammar(choice(["ok"]))))[0].text == "ok"


@pytest.mark.parametrize("new_engine", ["plain"], indirect=True)  # grammars are compiled alike for both
@pytest.mark.parametrize(
    "text",
    [
        regex("(a{1,1000}){1,1000}"),
        regex("((a{1,1000}){1,1000}){1,1000}"),
        regex(r"(\w{1,200}\s\d){1,500}"),
        regex("(a|b)*a(a|b){300}"),
        json_schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**9}),
        json_schema({"type": "string", "minLength": 10**8}),
        json_schema({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}),
        lark('start: s\ns: s s s | "a" | '),
    ],
)
def test_bombs_neither_stall_nor_end_anything(new_engine, text):
    engine, start = new_engine(), time.process_time()
    (completion,) = engine.generate([[1]], params(grammar(text), max_tokens=40, temperature=0.5, seed=1))
    assert time.process_time() - start < 20
    assert completion.finish_reason in ("length", "stop")


def test_white_space_is_bounded_whatever_a_schema_says(new_engine):
    schema = {"type": "object", "x-guidance": {"whitespace_pattern": " *"}, "maxProperties": 0}
    bias = {ord(" "): 100}
    (completion,) = new_engine().generate([[1]], params(grammar(json_schema(schema)), logit_bias=bias))
    assert completion.text == "{ }"
