"""Figures of a step, and the answers that are kept of it."""

import numpy as np

from inhouse.environments.environment import Grade, Problem
from inhouse.rl.loop.figures import kept_answers, num_sampled_tokens, step_figures
from inhouse.rl.rollouts import Group, Rollout
from inhouse.rl.sampling import Tried


def rollout(text: str, weights_step: int = 0) -> Rollout:
    sampled = np.array([True, False, True])
    return Rollout([1], [2, 3, 4], sampled, np.zeros(3, np.float32), None, None, "stop", text, weights_step)


def tried(environment: str, count: int, score: float, **changes: object) -> Tried:
    plain = Tried(environment, count, score, 2 * score, 10 * count, 0, 0, 0, False, False)
    return plain._replace(**changes)  # type: ignore[arg-type]


GROUP = Group(
    "sums:3", Problem("1 + 1", "", "2"), [rollout("2", 5), rollout("3", 4)], [Grade(1.0, True), Grade(0.0, True, "no")],
    [1.0, 0.0],
)  # fmt: skip


def test_means_are_over_answers_not_over_problems() -> None:
    both = [tried("sums:3", 8, 0.5, num_cut=2), tried("strings", 2, 1.0, is_dropped=True, is_early=True)]
    figures = step_figures(both, [GROUP], steps_before=6)
    assert figures["pass_rate"] == 0.6 and figures["reward"] == 1.2
    assert (figures["pass_rate/sums:3"], figures["pass_rate/strings"]) == (0.5, 1.0)
    assert (figures["problems"], figures["answers"], figures["groups"]) == (2, 10, 1)
    assert (figures["dropped_groups"], figures["early_exits"], figures["cut_answers"]) == (0.5, 0.5, 0.2)
    assert figures["answer_tokens"] == 10 and figures["staleness"] == 2


def test_a_step_without_anything_has_figures_too() -> None:
    figures = step_figures([], [], steps_before=0)
    assert (figures["pass_rate"], figures["reward"], figures["staleness"]) == (0.0, 0.0, 0)


def test_the_best_and_the_worst_answer_are_kept() -> None:
    kept = kept_answers([GROUP, GROUP], 3)
    assert [(row["reply"], row["score"], row["why"]) for row in kept] == [
        ("2", 1.0, None),
        ("3", 0.0, "no"),
        ("2", 1.0, None),
    ]
    assert num_sampled_tokens([GROUP]) == 4  # what tools gave is not
