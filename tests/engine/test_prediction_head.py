"""The model's own layer for multi-token prediction drafts what it says, whatever happens to pages, and changes nothing
about the answers.
"""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.conftest import ByteTokenizer, new_model
from tests.engine.test_speculation import WAYS, params, same

from inhouse.engine.drafts import prediction_head
from inhouse.engine.drafts.pace import SteadyPace
from inhouse.engine.drafts.verify import num_agreed
from inhouse.engine.engine import Engine
from inhouse.engine.paged_attention import Places
from inhouse.engine.request import Failure, SamplingParams
from inhouse.engine.sampler import Candidates, drawn
from inhouse.engine.settings import EngineSettings
from inhouse.model.cpu import choice, native
from inhouse.model.cpu.choice import Layout
from inhouse.model.transformer import Transformer

GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)


def near_bigram(noise: float) -> Transformer:
    """A model of which the next token hangs on the last one and, a little, on those before; and its layer likewise."""
    model = new_model("moe", num_nextn_predict_layers=1)
    with torch.no_grad():
        for block in model.blocks.values():
            for name, weight in block.named_parameters():
                if name.endswith(("o_proj.weight", "down_proj.weight", "down_proj")):
                    weight.mul_(noise)
        model.mtp.eh_proj.weight.mul_(noise / 10)
        model.mtp.eh_proj.weight[:, : model.config.hidden_size] += torch.eye(model.config.hidden_size)
        for norm in (model.norm, model.mtp.enorm, model.mtp.hnorm, model.mtp.shared_head["norm"]):
            norm.weight.fill_(1.0)
        model.embed_tokens.weight.div_(model.embed_tokens.weight.square().mean(dim=1, keepdim=True).sqrt())
    return model


@pytest.fixture(scope="module")
def model() -> Transformer:
    return near_bigram(0.2)


@pytest.fixture(scope="module")
def plain(model):
    return Engine(model, ByteTokenizer(), EngineSettings(max_sequences=8))


@pytest.fixture
def always(monkeypatch):
    """Drafts of full length at every step."""
    monkeypatch.setattr(prediction_head, "_SURE", 0.0)
    monkeypatch.setattr(SteadyPace, "observe", lambda self, num_proposed, num_accepted: None)


def drafting(model, num_pages=None, **settings):
    own = EngineSettings(**{"max_sequences": 8, "page_size": 4, "speculation": "mtp", "draft_tokens": 3} | settings)
    if num_pages is not None:
        config = model.config
        per_token = (config.num_layers + 1) * 2 * config.num_kv_heads * config.head_dim + config.hidden_size
        own = own.model_copy(update={"cache_gib": num_pages * own.page_size * per_token * 4 / 2**30})
    engine = Engine(model, ByteTokenizer(), own)
    assert num_pages is None or engine.num_pages == num_pages
    return engine


@torch.no_grad()
def foretold(model, tokens, most):
    """What the layer says, by full passes over all that it reads."""
    hidden_ND = model(torch.tensor([tokens])).hidden_BTD[0][:-1]
    tokens, draft = list(tokens), []
    while len(draft) < most:
        next_ND = model.embed(torch.tensor(tokens[1:]))
        layer = partial(model.mtp, next_ND=next_ND)
        ahead_ND, _ = model.run([layer], hidden_ND, torch.arange(len(hidden_ND))[None])
        draft.append(int(model.logits(ahead_ND[-1:]).argmax()))
        hidden_ND = torch.cat((hidden_ND, ahead_ND[-1:]))
        tokens.append(draft[-1])
    return draft


def watched(engine):
    """What is proposed from now on: pairs of tokens and what may follow them."""
    drafter, seen = engine._speculator._drafter, []
    propose = drafter.propose

    def watching(wanted):
        before = [(list(sequence.tokens), sequence) for sequence in wanted]
        drafts = propose(wanted)
        seen.extend((tokens, drafts[sequence]) for tokens, sequence in before if sequence in drafts)
        return drafts

    drafter.propose = watching
    return seen


def check(model, seen):
    for tokens, draft in seen:
        assert draft == foretold(model, tokens, len(draft))
    assert max(len(draft) for _, draft in seen) > 1


@pytest.mark.parametrize("num_pages", [None, 30])
@pytest.mark.parametrize("max_prefill", [7, 2048])
def test_it_drafts_what_the_layer_says(num_pages, max_prefill, model, plain, prompts, always, monkeypatch):
    """Of prompts that share pages or parts of them, that come in chunks, are sent back, branch, and end early."""
    monkeypatch.setattr(prediction_head, "_FEW", 2)
    engine = drafting(model, num_pages, max_prefill=max_prefill)
    seen = watched(engine)
    asked = [*prompts, prompts[-1][:30], [*prompts[-1][:21], 1, 2], prompts[-1], prompts[-1]]
    own = [GREEDY.model_copy(update={"seed": i, "temperature": float(i % 2)}) for i in range(len(asked))]
    ended = engine.add(prompts[-1], own[0])
    for _ in range(4):
        engine.step()
    engine.abort(ended)
    for found, expected in zip(engine.generate(asked, own), plain.generate(asked, own), strict=True):
        same(found, expected)
    later = asked[1] + plain.generate([asked[1]], own[1])[0].token_ids + [5, 6]
    engine.generate([later], GREEDY)
    check(model, seen)
    assert engine.num_accepted > 0 and engine.pages_in_use == engine.num_running == 0


def test_whatever_it_drafts_the_answers_are_the_same(model, plain, prompts, always):
    engine = drafting(model)
    asked = [(prompts[i % len(prompts)], params(i, way)) for i, way in enumerate(WAYS)]
    wanted = [prompt for prompt, _ in asked], [own for _, own in asked]
    for found, expected in zip(engine.generate(*wanted), plain.generate(*wanted), strict=True):
        same(found, expected)
    assert 0 < engine.num_accepted < engine.num_drafted


def test_answers_are_drawn_by_the_models_own_distribution(model, always):
    """Thousands of answers of three tokens, each of which had four that could come, beside what the model says."""
    engine, prompt, num = drafting(model, page_size=16), [7, 8, 9], 1500
    own = [SamplingParams(max_tokens=3, temperature=1.5, top_k=4, ignore_eos=True, seed=seed) for seed in range(num)]
    counts: dict[tuple[int, ...], int] = {}
    for completion in engine.generate([prompt] * num, own):
        counts[tuple(completion.token_ids)] = counts.get(tuple(completion.token_ids), 0) + 1
    expected = outcomes(model, prompt, own[0])
    assert counts.keys() <= expected.keys() and engine.num_accepted > num / 10
    statistic = sum((counts.get(each, 0) - num * p) ** 2 / (num * p) for each, p in expected.items() if num * p > 4)
    freedom = sum(num * p > 4 for p in expected.values()) - 1
    assert abs(statistic - freedom) < 4 * (2 * freedom) ** 0.5


@torch.no_grad()
def outcomes(model, prompt, own):
    """The probability of every answer."""
    known = {(): 1.0}
    for _ in range(own.max_tokens):
        longer = {}
        for answer, chance in known.items():
            hidden = model(torch.tensor([[*prompt, *answer]])).hidden_BTD[:, -1]
            best = (model.logits(hidden)[0] / own.temperature).topk(own.top_k)
            for token, share in zip(best.indices.tolist(), best.values.softmax(-1).tolist(), strict=True):
                longer[(*answer, token)] = chance * share
        known = longer
    return known


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(0, 5))
def test_a_draw_that_is_compared_with_a_draft_is_rejection_sampling(weights, drafted):
    """Of a draft that is one token for certain (Leviathan et al. 2023, theorem 1): it is taken with its probability p,
    and what is drawn where it is not has the rest of the distribution, (p - min(p, q)) over its sum."""
    p, drafted = np.array(weights) / sum(weights), drafted % len(weights)
    grid = torch.from_numpy((np.arange(20 * sum(weights)) + 0.5) / (20 * sum(weights)))  # every random number, once
    logits = torch.from_numpy(np.log(p)).expand(len(grid), -1)
    tokens = drawn(Candidates(torch.arange(len(p)).expand(len(grid), -1), logits), grid)[0].tolist()
    taken = [token for token in tokens if num_agreed([drafted], [token, token]) == 1]
    others = [token for token in tokens if token not in taken]
    assert len(taken) / len(tokens) == pytest.approx(p[drafted])
    rest = np.maximum(p - np.eye(len(p))[drafted], 0)
    assert np.bincount(others, minlength=len(p)) / len(others) == pytest.approx(rest / rest.sum())
    assert np.bincount(tokens, minlength=len(p)) / len(tokens) == pytest.approx(p)


def test_what_others_have_computed_is_not_computed_again(model, prompts, always, monkeypatch):
    engine, read = drafting(model), []
    run = engine._speculator._drafter._pass
    monkeypatch.setattr(
        engine._speculator._drafter, "_pass", lambda *given: (read.append(len(given[0])), run(*given))[1]
    )
    first = engine.generate([prompts[-1]], GREEDY.model_copy(update={"max_tokens": 3}))[0]
    assert read[0] == 40  # of 41 tokens, the first of which has none before it
    read.clear()
    engine.generate([prompts[-1] + first.token_ids], GREEDY.model_copy(update={"max_tokens": 3}))
    assert max(read) <= 4
    read.clear()
    engine.forget_prefixes()
    engine.generate([prompts[-1]] * 4, GREEDY.model_copy(update={"max_tokens": 3}))
    assert read[0] < 2 * 40  # together, and not four times


def test_a_long_prompt_is_caught_up_with_in_parts(model, plain, prompts, always, monkeypatch):
    monkeypatch.setattr(prediction_head, "_CAUGHT_UP", 16)
    engine = drafting(model)
    seen = watched(engine)
    found, expected = (each.generate(prompts[-2:], GREEDY) for each in (engine, plain))
    assert [each.token_ids for each in found] == [each.token_ids for each in expected]
    assert len(seen[0][0]) > len(prompts[-2]) + 1
    check(model, seen)


def test_a_layer_that_fails_costs_its_drafts_alone(model, plain, prompts, always, monkeypatch):
    engine, times = drafting(model), iter(range(1000))
    seen, run = watched(engine), engine._speculator._drafter._pass

    def sometimes(*given):
        if next(times) % 5 == 3:
            raise MemoryError("none left")
        return run(*given)

    monkeypatch.setattr(engine._speculator._drafter, "_pass", sometimes)
    found = engine.generate(prompts[:5], GREEDY)
    assert [each.token_ids for each in found] == [each.token_ids for each in plain.generate(prompts[:5], GREEDY)]
    check(model, seen)


def test_an_output_that_is_no_number_ends_its_request_and_no_other(prompts, always):
    model = near_bigram(0.2)
    with torch.no_grad():
        model.embed_tokens.weight[7] = torch.nan
    engine, outputs = drafting(model), {}
    failing, other = engine.add([7, 7], GREEDY), engine.add([8, 9], GREEDY)
    while engine.num_running or engine._scheduler.waiting:
        outputs |= {output.id: output for output in engine.step()}
    assert isinstance(outputs[failing], Failure) and outputs[other].finish_reason == "length"


def test_drafts_are_as_long_as_they_are_sure(prompts, monkeypatch):
    """And fewer are wrong than where all are tried."""
    model, rates = near_bigram(0.2), []
    with torch.no_grad():
        model.lm_head.weight.mul_(3.0)
    for sure in (0.0, 0.5):
        monkeypatch.setattr(prediction_head, "_SURE", sure)
        engine = drafting(model, draft_tokens=8)
        engine.generate(prompts[:4], GREEDY.model_copy(update={"max_tokens": 40}))
        rates.append(engine.num_accepted / engine.num_drafted)
    assert rates[0] < rates[1]


def test_the_pace_stops_where_little_comes_of_it():
    pace, asked = SteadyPace(8), 0
    for _ in range(200):
        if not pace.is_waiting():
            asked += 1
            pace.observe(0, 0)
    assert 20 < asked < 80
    pace = SteadyPace(8)
    for accepted in [1, 0, 0] * 50:
        assert not pace.is_waiting() and pace.most == 8
        pace.observe(2, accepted)


def test_its_memory_is_counted(model, plain):
    engine = drafting(model, page_size=16, cache_gib=40 * 16 * 864 * 4 / 2**30)
    cache = engine._cache
    held = sum(each.nbytes for each in (*cache.pages, cache.hidden))
    config = model.config
    assert len(cache.pages) == config.num_layers + 1 and held <= engine.settings.cache_gib * 2**30
    assert held == engine.num_pages * 16 * cache.bytes_per_token(config, torch.float32, is_ahead=True)
    assert len(plain._cache.pages) == config.num_layers and not plain._cache.hidden.numel()


def test_a_model_without_the_layer_is_refused(models):
    with pytest.raises(ValueError, match="speculation = mtp, but the model has no layer for multi-token prediction"):
        Engine(models["moe"], ByteTokenizer(), EngineSettings(speculation="mtp"))


@pytest.mark.skipif(native.find_compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("layout", [Layout.BF16, Layout.INT8])
def test_the_kernel_says_of_the_layer_what_the_modules_say(layout, prompts, always, monkeypatch):
    """A packed model's: by one call of the kernel where it is short, else by the modules."""
    monkeypatch.setattr(choice, "layout", lambda weight, to_int8: layout)
    model = near_bigram(0.5)
    model.dtype = torch.bfloat16
    for name, weight in model.named_parameters():
        if "mlp.gate." not in name:
            weight.data = weight.data.bfloat16()
    model.pack(to_int8=layout is Layout.INT8)
    engine = drafting(model, weights="int8" if layout is Layout.INT8 else "auto")
    runner, config, tokens = engine._runner, model.config, prompts[-1]
    runner.table[0, :10] = np.arange(10)
    rows, positions = np.zeros(39, dtype=np.int64), np.arange(1, 40)
    before_ND = torch.randn(39, config.hidden_size, generator=torch.Generator().manual_seed(0)).bfloat16()
    places, wanted = runner.places(rows, positions), torch.arange(39)
    with torch.no_grad():
        logits, totals, _, hidden = runner.ahead(torch.tensor(tokens[1:]), Places(*places), wanted, before_ND.float())
        layer = partial(model.mtp, next_ND=model.embed(torch.tensor(tokens[1:])))
        expected, _ = model.run([layer], before_ND, torch.from_numpy(positions[None]))
        near = (logits - model.logits(expected)).norm(dim=-1) / model.logits(expected).norm(dim=-1)
    assert near.median() < 0.03 and (hidden - expected.float()).norm(dim=-1).median() < 0.2
    torch.testing.assert_close(totals, logits.logsumexp(dim=-1), rtol=1e-4, atol=1e-4)
    same_as_without = Engine(model, ByteTokenizer(), EngineSettings(weights=engine.settings.weights))
    found, expected = (each.generate([tokens], GREEDY)[0] for each in (engine, same_as_without))
    assert found.token_ids == expected.token_ids and engine.num_accepted > 0
