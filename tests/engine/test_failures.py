"""A request that cannot be computed costs itself alone, wherever it stands, and what it leaves harms nobody."""

import pytest
import torch

from inhouse.engine.grammar import Mask, grammar, regex
from inhouse.engine.request import Failure, SamplingParams

GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
POISON = 299  # a token that no prompt of the fixtures holds


@pytest.fixture
def poisoned(prompts):
    return [[token if token != POISON else 1 for token in prompt] for prompt in prompts]


def poison(engine, monkeypatch, harm):
    """`harm(scheduled, result)` happens in every pass over a sequence that holds the token."""
    run = engine._runner.run

    def poisoned_run(scheduled):
        result = run(scheduled)
        bad = {item.sequence.id for item in scheduled if POISON in item.sequence.tokens[: item.sequence.num_prompt]}
        return harm(bad, *result) if bad else result

    monkeypatch.setattr(engine._runner, "run", poisoned_run)


def crash(bad, sequences, logits, totals):
    raise RuntimeError("a kernel does not like this")


def not_a_number(bad, sequences, logits, totals):
    rows = [i for i, sequence in enumerate(sequences) if sequence.id in bad]
    logits, totals = logits.clone(), totals.clone()
    logits[rows], totals[rows] = torch.nan, torch.nan
    return sequences, logits, totals


@pytest.mark.parametrize("harm", [crash, not_a_number])
@pytest.mark.parametrize("place", [0, 3, 7])
@pytest.mark.parametrize("shares", [False, True])
def test_a_request_that_cannot_be_computed_costs_itself_alone(
    harm, place, shares, new_engine, naive, poisoned, monkeypatch
):
    """Beside it are others that begin with it and share its pages, and one that was decoding before."""
    engine = new_engine(page_size=4, max_prefill=64)
    poison(engine, monkeypatch, harm)
    before = engine.add(poisoned[4], GREEDY)
    engine.step()
    bad = [*poisoned[6][:9], POISON]
    others = [[*bad[:9], 5, 6], *poisoned] if shares else poisoned
    ids = [engine.add(prompt, GREEDY) for prompt in others[:place]]
    failing = engine.add(bad, GREEDY)
    ids += [engine.add(prompt, GREEDY) for prompt in others[place:]]
    found: dict[int, object] = {}
    for _ in range(100):
        for output in engine.step():
            if isinstance(output, Failure) or output.completion is not None:
                assert output.id not in found
                found[output.id] = output
        if len(found) == len(ids) + 2:
            break
    assert isinstance(found.pop(failing), Failure)
    expected = dict(zip(ids, others, strict=True)) | {before: poisoned[4]}
    assert {each: output.completion.token_ids for each, output in found.items()} == {
        each: naive("dense", prompt, 12) for each, prompt in expected.items()
    }
    assert engine.pages_in_use == engine.num_running == len(engine._scheduler.waiting) == 0


def test_two_kinds_of_failure_in_one_step_cost_their_own_requests(new_engine, naive, monkeypatch):
    """A grammar that cannot be followed, and what is no number, of two that are admitted together."""
    engine = new_engine()
    before = engine.add([1, 2, 3], GREEDY)
    engine.step()
    bound = engine.add([4, 5, 6], GREEDY.model_copy(update={"grammar": grammar(regex("[a-z]+"))}))
    matcher = engine._sequences[bound].matcher
    monkeypatch.setattr(matcher, "mask", lambda mask=matcher.mask: Mask(mask().bits, "too complex"))
    poison(engine, monkeypatch, not_a_number)
    failing, outputs = engine.add([7, POISON], GREEDY), []
    while engine.num_running:
        outputs += engine.step()
    assert {output.id for output in outputs if isinstance(output, Failure)} == {bound, failing}
    (done,) = (output.completion for output in outputs if output.id == before and output.finish_reason)
    assert done.token_ids == naive("dense", [1, 2, 3], 12) and engine.pages_in_use == 0


def test_what_is_no_number_does_not_stay_in_the_pages(new_engine, naive, prompts):
    """A masked NaN times zero is NaN: the next request on the same pages would fail too."""
    engine = new_engine(num_pages=4, page_size=16)
    embedding = engine.model.embed_tokens.weight
    with torch.no_grad():
        kept = embedding[POISON].clone()
        embedding[POISON] = torch.nan
        try:
            with pytest.raises(RuntimeError, match="not a number"):
                engine.generate([[1, POISON] * 20], GREEDY)
            gone = engine.add([1, POISON] * 20, GREEDY)
            engine._budget.max_tokens = 20
            engine.step()
            engine.abort(gone)  # before anybody has seen what its prompt gives
            assert engine.generate([[1, 2, 3]], GREEDY)[0].token_ids == naive("dense", [1, 2, 3], 12)
        finally:
            embedding[POISON] = kept


def test_a_model_that_computes_nothing_is_no_requests_fault(new_engine, naive, prompts, monkeypatch):
    engine = new_engine(page_size=8)
    stream = engine.stream(prompts[2], GREEDY)
    next(stream)

    def dead(*args):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(engine._runner, "run", dead)
        patched.setattr(type(engine.model), "forward", dead)
        with pytest.raises(ZeroDivisionError):
            engine.generate(prompts, GREEDY)
    with pytest.raises(RuntimeError, match="failed"):  # and does not wait for ever
        next(stream)
    assert engine.pages_in_use == engine.num_running == len(engine._scheduler.waiting) == 0
    assert engine.generate([prompts[6]], GREEDY)[0].token_ids == naive("dense", prompts[6], 12)


def test_streams_are_read_in_any_order(new_engine, naive, prompts):
    engine = new_engine()
    first, second = engine.stream(prompts[4], GREEDY), engine.stream(prompts[5], GREEDY)
    tokens: dict[str, list[int]] = {"first": [next(first).token], "second": [next(second).token]}
    alone = engine.generate([prompts[6]], GREEDY)[0].token_ids
    for _ in range(3):
        tokens["second"].append(next(second).token)
    tokens["first"] += [output.token for output in first]
    second.close()
    assert tokens["first"] == naive("dense", prompts[4], 12)
    assert tokens["second"] == naive("dense", prompts[5], 4)
    assert alone == naive("dense", prompts[6], 12)
    assert engine.pages_in_use == engine.num_running == 0


@pytest.mark.parametrize(
    "odd", [{"temperature": 1e-39}, {"temperature": 5e-324}, {"temperature": 1e-4}, {"top_k": 2**31 - 1}]
)
def test_the_ends_of_the_ranges_draw_tokens(odd, new_engine, naive, prompts):
    params = SamplingParams(**({"max_tokens": 12, "temperature": 0, "ignore_eos": True} | odd))
    assert new_engine().generate([prompts[3]], params)[0].token_ids == naive("dense", prompts[3], 12)


def test_what_no_tensor_holds_is_refused():
    with pytest.raises(ValueError, match="top_k"):
        SamplingParams(max_tokens=1, top_k=2**63 - 1)
