"""A step's rollouts are a function of seed, step and weights, and of their problems those that teach something."""

import itertools
import threading
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tests.engine.conftest import DENSE, MOE
from tests.rl.tiny_engine import new_engine, new_model, problems, tokenizer
from tests.truncated import truncated

from inhouse.engine.request import Failure
from inhouse.environments.environment import Grade
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.rl.sampling import Sampler, seed_of


class Settings(NamedTuple):
    prompts: int = 3
    samples: int = 6
    first_samples: int = 4
    pass_rate_low: float = 0.05
    pass_rate_high: float = 0.8
    tried: float = 3.0
    temperature: float = 1.0
    top_p: float = 0.9


def score_of(reply):
    """Half of all replies are right."""
    return float(len(reply) % 2)


def grade(asks):
    return [Grade(score_of(ask.reply), True) for ask in asks]


def scores(problem, rollouts, grades):
    return [each.score for each in grades]


def new_sampler(engine=None, settings=None, grade=grade, reward=scores, **options):
    settings = settings or Settings()
    return Sampler(engine or new_engine(), tokenizer(), CHAT_TEMPLATE, settings, 5, grade, reward, **options)


def tokens_of(sampled):
    return [[rollout.token_ids for rollout in group.rollouts] for group in sampled.groups]


def test_a_step_depends_on_nothing_that_was_sampled_before_it():
    sampler = new_sampler()
    alone = sampler.sample(4, 2, problems(), 20)
    sampler.sample(5, 2, problems(), 20)
    again = sampler.sample(4, 2, problems(), 20)
    assert len(alone.groups) == 3
    assert not alone.shortage
    for one, other in zip(alone.groups, again.groups, strict=True):
        for a, b in zip(one.rollouts, other.rollouts, strict=True):
            assert a.token_ids == b.token_ids
            assert a.sampler_logprobs.tobytes() == b.sampler_logprobs.tobytes()
    assert tokens_of(sampler.sample(5, 2, problems(), 20)) != tokens_of(alone)


def test_processes_share_the_problems_and_all_have_the_same_rollouts():
    barrier, put = threading.Barrier(2), [None, None]

    class Processes(NamedTuple):
        rank: int
        world: int = 2

        def gather(self, function):
            put[self.rank] = function()
            barrier.wait()
            found = list(put)
            barrier.wait()
            return found

    found = [None, None]

    def run(rank):
        found[rank] = new_sampler(processes=Processes(rank)).sample(1, 0, problems(), 20)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = new_sampler().sample(1, 0, problems(), 20)
    assert tokens_of(found[0]) == tokens_of(found[1]) == tokens_of(alone)
    assert found[0].tried == alone.tried


@pytest.mark.parametrize("shape", [DENSE, MOE], ids=["dense", "moe"])
def test_what_a_rollout_says_is_what_the_model_says_of_it(shape):
    model = new_model(shape)
    sampled = new_sampler(new_engine(model)).sample(0, 7, problems(), 12)
    for rollout in itertools.chain.from_iterable(group.rollouts for group in sampled.groups):
        ids = rollout.prompt_ids + rollout.token_ids
        with torch.no_grad():
            out = model(torch.tensor([ids]))
            logits_TV = model.logits(out.hidden_BTD)[0, len(rollout.prompt_ids) - 1 : -1]
        count = len(logits_TV)
        parameters = torch.ones(count), torch.zeros(count, dtype=torch.int64), torch.full((count,), 0.9)
        truncated_TV = truncated(logits_TV, *parameters)
        sets = np.split(rollout.kept.ids, rollout.kept.ends[:-1])
        assert [each.tolist() for each in sets] == [row.isfinite().nonzero()[:, 0].tolist() for row in truncated_TV]
        logprobs = truncated_TV.log_softmax(-1)[range(count), rollout.token_ids]
        assert rollout.sampler_logprobs == pytest.approx(logprobs.numpy(), abs=1e-5)
        assert rollout.is_sampled.all()
        assert rollout.weights_step == 7
        if shape is MOE:
            chosen = torch.stack([layer.experts_NK for layer in out.routing], dim=1)[:-1]
            assert (np.sort(rollout.experts) == chosen.sort(-1)[0].numpy()).all()
        else:
            assert rollout.experts is None


def test_hopeless_and_solved_problems_end_early_and_equal_rewards_are_dropped():
    asked = Counter()

    def easy_or_hard(asks):
        """Problems 0, 3, 6, … are solved every time, 1, 4, … never, of the others every second answer is right."""
        grades = []
        for ask in asks:
            asked[ask.problem.prompt] += 1
            kind = int(ask.problem.prompt.split()[2]) % 3
            grades.append(Grade((1.0, 0.0, float(asked[ask.problem.prompt] % 2))[kind], True))
        return grades

    sampler = new_sampler(settings=Settings(pass_rate_high=0.95, tried=4), grade=easy_or_hard)
    sampled = sampler.sample(0, 0, problems(), 100)
    assert [group.problem.prompt.split()[2] for group in sampled.groups] == ["2", "5", "8"]
    assert all(len(group.rollouts) == len(group.grades) == len(group.rewards) == 6 for group in sampled.groups)
    assert [each.num_samples for each in sampled.tried] == [4, 4, 6] * 3
    assert [each.is_dropped for each in sampled.tried] == [True, True, False] * 3
    assert [each.is_early for each in sampled.tried] == [True, True, False] * 3
    assert [each.score for each in sampled.tried] == [1, 0, 0.5] * 3


def test_it_ends_with_fewer_groups_after_so_many_problems():
    sampler = new_sampler(grade=lambda asks: [Grade(1.0, True) for _ in asks])
    sampled = sampler.sample(0, 0, problems(), 100)
    assert not sampled.groups
    assert len(sampled.tried) == 9
    assert sampled.shortage == (
        "0 of 3 groups after 9 problems: answers to 9 were all worth the same (9 solved every time)"
    )


def test_an_answer_that_was_cut_off_is_worth_nothing_and_asked_of_nobody():
    seen, judged = [], []

    def reward(problem, rollouts, grades):
        judged.extend(zip(rollouts, grades, strict=True))
        return [each.score for each in grades]

    sampler = new_sampler(grade=lambda asks: seen.extend(asks) or grade(asks), reward=reward)
    sampled = sampler.sample(0, 0, problems(), 5)
    cut = [grade for rollout, grade in judged if rollout.finish_reason == "length"]
    assert 0 < len(cut) < len(judged)
    assert all(each == Grade(0.0, False, "not ended within 5 tokens") for each in cut)
    assert len(seen) + len(cut) == len(judged) == sum(each.num_samples for each in sampled.tried)
    assert sum(each.num_cut for each in sampled.tried) == len(cut)


def test_a_problem_that_fills_the_context_is_passed_over():
    sampled = new_sampler().sample(0, 0, problems(iter([500, 0, 500, *[0] * 50])), 20)
    assert sampled.num_too_long == 2
    assert {"What is 0 + 1?", "What is 2 + 1?"}.isdisjoint(group.problem.prompt for group in sampled.groups)


def test_a_rollout_that_fails_is_counted_and_the_others_go_on(caplog):
    engine = new_engine()
    step, failed = engine.step, []

    def failing():
        """The first answer that ends has failed instead."""
        outputs = step()
        for place, output in enumerate(outputs):
            if not failed and getattr(output, "completion", None) is not None:
                failed.append(output.id)
                outputs[place] = Failure(output.id, "its numbers are none")
        return outputs

    engine.step = failing
    sampled = new_sampler(engine).sample(0, 0, problems(), 20)
    assert sum(each.num_failed for each in sampled.tried) == 1
    assert len(sampled.groups) == 3
    assert "1 of 12 rollouts failed: its numbers are none" in caplog.text


def test_seeds_are_a_function_of_all_that_tells_answers_apart():
    seeds = [seed_of(*each) for each in itertools.product(range(3), repeat=5)]
    assert len(set(seeds)) == len(seeds)
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    assert seed_of(1, 2, 3, 4) == seed_of(1, 2, 3, 4, 0)
