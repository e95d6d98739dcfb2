"""How much of the prompts a step computes, and whose turn it is."""

import pytest

from inhouse.engine.prefill import PrefillBudget
from inhouse.engine.request import SamplingParams


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


@pytest.mark.parametrize("cost", [1e-5, 1e-4, 1e-3, 5e-3])
@pytest.mark.parametrize("step", [0.002, 0.05, 0.07])
def test_who_decodes_keeps_two_fifths_of_its_speed_and_waits_for_no_long_step(cost, step):
    budget = PrefillBudget(2048)
    for _ in range(5):
        budget.observe(0, True, step)
    simulate(budget, 256, step, cost)  # learns what a token takes
    prompts, decoding, longest = simulate(budget, 40_000, step, cost)
    assert decoding / (prompts + decoding) > 0.38
    assert longest < step + 0.2
    if cost * budget.max_tokens > 0.15:  # else every step has as much as it may have
        assert prompts / (prompts + decoding) > 0.5, "the prompt takes at most twice as long"


def test_alone_a_prompt_waits_for_nobody_and_debts_are_forgotten():
    budget = PrefillBudget(2048)
    budget.observe(256, True, 1.0)
    assert budget.tokens(is_decoding=True) == 0
    assert budget.tokens(is_decoding=False) > 0
    budget.observe(128, False, 0.5)
    assert budget.tokens(is_decoding=True) > 0
    budget.observe(2048, False, 1e-4)
    assert budget.tokens(is_decoding=False) <= 2048


def admitted_in_order(engine, ids: list[int]) -> list[int]:
    order: list[int] = []
    while engine._sequences:
        order += [each.id for each in engine._scheduler.running if each.id not in order]
        engine.step()
    return [ids.index(identity) for identity in order]


def test_every_owner_gets_places_alike_and_urgent_requests_come_first(new_engine, prompts):
    engine = new_engine(max_sequences=4)
    params = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    many = [engine.add(prompts[i % 3], params, owner="many") for i in range(8)]
    one = engine.add(prompts[1], params, owner="one")
    late = engine.add(prompts[1], params.model_copy(update={"priority": 5}), owner="many")
    order = admitted_in_order(engine, [*many, one, late])
    assert order.index(8) < 4, "the newcomer takes the place that one owner alone may not"
    assert order[-1] == 9, "who said that it can wait comes last"


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
