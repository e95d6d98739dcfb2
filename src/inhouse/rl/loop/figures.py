"""What a step of a climb comes to in numbers, and which of its answers are kept to be looked at."""

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from inhouse.rl.rollouts import Group
from inhouse.rl.sampling import Tried


def pass_rate(tried: Sequence[Tried]) -> float:
    """The mean score of all answers that were sampled, learnt from or not; 0 where there are none."""
    return math.fsum(each.num_samples * each.score for each in tried) / max(num_answers(tried), 1)


def cut_share(tried: Sequence[Tried]) -> float:
    """The share of answers that their limit ended."""
    return sum(each.num_cut for each in tried) / max(num_answers(tried), 1)


def num_answers(tried: Sequence[Tried]) -> int:
    return sum(each.num_samples for each in tried)


def num_sampled_tokens(groups: Sequence[Group]) -> int:
    """Tokens that are learnt from."""
    return sum(int(rollout.is_sampled.sum()) for group in groups for rollout in group.rollouts)


def step_figures(tried: Sequence[Tried], groups: Sequence[Group], steps_before: int) -> dict[str, float]:
    """Of all that was sampled: reward, pass rate, whole and by environment, length, what was cut, dropped, late or
    failed; of what is learnt from, by how many steps its weights are older than the learner's, which has done
    `steps_before`."""
    ages = [steps_before - rollout.weights_step for group in groups for rollout in group.rollouts]
    kinds = sorted({each.environment for each in tried})
    by_kind = {kind: pass_rate([each for each in tried if each.environment == kind]) for kind in kinds}
    count, answers = max(len(tried), 1), max(num_answers(tried), 1)
    return {
        "reward": math.fsum(each.num_samples * each.reward for each in tried) / answers,
        "pass_rate": pass_rate(tried),
        **{f"pass_rate/{kind}": rate for kind, rate in by_kind.items()},
        "problems": len(tried),
        "answers": num_answers(tried),
        "groups": len(groups),
        "dropped_groups": sum(each.is_dropped for each in tried) / count,
        "early_exits": sum(each.is_early for each in tried) / count,
        "answer_tokens": sum(each.num_tokens for each in tried) / answers,
        "cut_answers": cut_share(tried),
        "late_answers": sum(each.num_late for each in tried),
        "failed_answers": sum(each.num_failed for each in tried),
        "staleness": max(ages, default=0),
    }


def kept_answers(groups: Sequence[Group], count: int) -> list[dict[str, Any]]:
    """The best and the worst answer of a group, group after group, until there are `count`."""
    pairs = ([(group, _extreme(group, max)), (group, _extreme(group, min))] for group in groups)
    chosen = islice((pair for pairs_of_one in pairs for pair in pairs_of_one), count)
    return [_answer(group, place) for group, place in chosen]


def _extreme(group: Group, choose: Any) -> int:
    return group.rewards.index(choose(group.rewards))


def _answer(group: Group, place: int) -> dict[str, Any]:
    grade, rollout = group.grades[place], group.rollouts[place]
    return {
        "environment": group.environment,
        "prompt": group.problem.prompt,
        "answer": group.problem.answer,
        "reply": rollout.text,
        "score": grade.score,
        "why": grade.why,
        "reward": group.rewards[place],
        "tokens": len(rollout.token_ids),
        "finish_reason": rollout.finish_reason,
    }
