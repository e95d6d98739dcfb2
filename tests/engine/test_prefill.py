"""How much of the prompts a step computes, and whose turn it is."""

import pytest

from inhouse.engine.prefill import PrefillBudget
from inhouse.engine.request import SamplingParams
from inhouse.engine.scheduler import Origin


def simulate(budget: PrefillBudget, num_tokens: int, step: float, cost: float) -> tuple[float, float, float]:
    """Seconds of prompts, of decoding, and the longest step, until so many tokens of prompts are computed."""
    prompts = decoding = longest = 0.0
    while num_tokens > 0:
        chunk = min(budget.tokens(is_decoding=True), num_tokens)
        seconds = step + chunk * cost
        budget.observe(chunk, True, seconds)
        prompts, decoding, longest = prompts + chunk * cost, decoding + step, max(longest, seconds)
        num_tokens -= chunk
    return prompts, decoding, longest


def new_budget(step: float) -> PrefillBudget:
    budget = PrefillBudget(2048, 0.15)
    for _ in range(5):
        budget.observe(0, True, step)
    return budget


@pytest.mark.parametrize("cost", [1e-4, 1e-3])
@pytest.mark.parametrize("step", [0.002, 0.05, 0.07])
def test_who_decodes_keeps_two_fifths_of_its_time_and_waits_for_no_long_step(cost, step):
    budget = new_budget(step)
    simulate(budget, 256, step, cost)  # learns what a token takes
    prompts, decoding, longest = simulate(budget, 40_000, step, cost)
    assert decoding / (prompts + decoding) > 0.38
    assert longest < step + 0.2
    assert prompts / (prompts + decoding) > 0.5, "the prompt takes at most twice as long"


@pytest.mark.parametrize("wrong", [0.15, 25.0])
def test_what_was_learned_of_other_steps_is_forgotten(wrong):
    """Steps of a large batch, or of a machine that stood still, say nothing about those of two sequences."""
    budget = new_budget(wrong)
    prompts, decoding, longest = simulate(budget, 20_000, 0.01, 1e-3)
    assert decoding / (prompts + decoding) > 0.33
    assert longest < 1.0


def test_a_step_that_took_for_ever_shuts_nobody_out():
    budget = new_budget(0.01)
    budget.observe(256, True, 30.0)
    waited = 0
    while not budget.tokens(is_decoding=True):
        budget.observe(0, True, 0.01)
        waited += 1
    assert waited < 100
    assert budget.tokens(is_decoding=True) >= 128


def test_alone_a_prompt_waits_for_nobody_and_debts_are_forgotten():
    budget = new_budget(0.01)
    budget.observe(256, True, 0.5)
    assert budget.tokens(is_decoding=True) == 0
    assert budget.tokens(is_decoding=False) > 0
    budget.observe(128, False, 0.5)
    assert budget.tokens(is_decoding=True) > 0
    budget.observe(2048, False, 1e-4)
    assert budget.tokens(is_decoding=False) <= 2048


def test_without_a_clock_prompts_are_cut_in_the_same_way_every_time():
    budget = PrefillBudget(512, None)
    for seconds in (10.0, 1e-6):
        budget.observe(512, True, seconds)
        assert budget.tokens(is_decoding=True) == budget.tokens(is_decoding=False) == 512


def admitted_in_order(engine, ids: list[int]) -> list[int]:
    order: list[int] = []
    while engine._sequences:
        order += [each.id for each in engine._scheduler.running if each.id not in order]
        engine.step()
    return [ids.index(identity) for identity in order]


def test_every_owner_gets_places_alike_and_urgent_requests_come_first(new_engine, prompts):
    engine = new_engine(max_sequences=4)
    params = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    many = [engine.add(prompts[i % 3], params, origin=Origin("many")) for i in range(8)]
    one = engine.add(prompts[1], params, origin=Origin("one"))
    late = engine.add(prompts[1], params.model_copy(update={"priority": 5}), origin=Origin("many"))
    order = admitted_in_order(engine, [*many, one, late])
    assert order.index(8) < 4, "the newcomer takes the place that one owner alone may not"
    assert order[-1] == 9, "who said that it can wait comes last"


def test_who_is_sent_back_is_the_least_urgent_and_passed_by_nobody(new_engine, prompts):
    engine = new_engine(max_sequences=4, page_size=4, num_pages=12)
    params = SamplingParams(max_tokens=20, temperature=0, ignore_eos=True)
    urgent = [engine.add(prompts[2], params, origin=Origin("one")) for _ in range(2)]
    patient = engine.add(prompts[2], params.model_copy(update={"priority": 9}), origin=Origin("one"))
    for _ in range(3):
        engine.step()
    scheduler = engine._scheduler
    if all(each.id != patient for each in scheduler.waiting):
        scheduler.send_back(next(each for each in scheduler.running if each.id == patient))
    engine.add(prompts[1], params, origin=Origin("newcomer"))
    assert scheduler._next().id == patient
    assert {each.id for each in scheduler.running} == set(urgent)


def test_what_is_sent_back_for_a_more_urgent_one_was_not_planned_in_that_step(new_engine, prompts, naive):
    """The least urgent is the oldest here, so that it comes first in the order of admission."""
    engine = new_engine(max_sequences=4, page_size=4, num_pages=14)
    params = SamplingParams(max_tokens=24, temperature=0, ignore_eos=True)
    asked = {}
    for place, priority in ((2, 9), (1, 5), (2, 0)):
        asked[engine.add(prompts[place], params.model_copy(update={"priority": priority}))] = prompts[place]
        engine.step()
    done = {}
    while len(done) < 3:
        assert all(item.row >= 0 for item in engine._scheduler.running)
        done |= {output.id: output.completion for output in engine.step() if output.completion}
    for identity, prompt in asked.items():
        assert done[identity].token_ids == naive("dense", prompt, 24)


def test_a_short_prompt_passes_a_long_one(new_engine, prompts):
    engine = new_engine(max_sequences=4, page_size=4)
    params = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True)
    engine._budget.tokens = lambda is_decoding: 16
    long = engine.add(list(range(100)), params)
    short = engine.add(prompts[1], params)
    ended: list[int] = []
    while len(ended) < 2:
        ended += [output.id for output in engine.step() if output.completion]
    assert ended == [short, long]
