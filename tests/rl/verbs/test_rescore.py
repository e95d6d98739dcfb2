"""Kept rollouts under another verifier or reward, without sampling."""

from pathlib import Path

import numpy as np
import pytest
import torch

from inhouse.checkpoint.checkpointer import Checkpointer
from inhouse.environments.environment import Grade, Problem
from inhouse.environments.registry import environment_of
from inhouse.environments.reward import RewardSettings
from inhouse.environments.verdicts import Ask
from inhouse.rl.journal import Journal
from inhouse.rl.loop.rewarding import Rewarding
from inhouse.rl.rollouts import Group, Rollout
from inhouse.rl.sampling import Sampled
from inhouse.rl.verbs.rescore import journal_of, own_settings, rescore
from inhouse.rl.verbs.show import rescored_table


def answer(text: str, finish_reason: str = "stop") -> Rollout:
    ids = [1, 2, 3]
    return Rollout([1], ids, np.ones(3, bool), np.zeros(3, np.float32), None, None, finish_reason, text, 0)


def grade(asks: list[Ask]) -> list[Grade]:
    scorers = {ask.environment: environment_of(ask.environment).score for ask in asks}
    return [scorers[ask.environment](ask.problem, ask.reply) for ask in asks]  # type: ignore[misc]


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    answers = [answer("Answer: 12"), answer("Answer: 12 apples"), answer("Answer: 12", "length")]
    grades = [Grade(1.0, True), Grade(0.0, True), Grade(0.0, False, "cut")]
    group = Group("sums:2", Problem("7 + 5", "", "12"), answers, grades, [1.0, 0.0, 0.0])
    Journal(tmp_path / "rl" / "rollouts").write(0, Sampled([group], [], 0, ""), "w")
    return tmp_path


def test_another_verifier_finds_otherwise_and_what_was_cut_stays_worth_nothing(stage: Path) -> None:
    rewarding = Rewarding(RewardSettings(), 16)
    (same,) = rescore(journal_of(stage), grade, rewarding)
    assert (same.changed, same.score, same.reward) == (0, same.score_before, same.reward_before)
    (other,) = rescore(journal_of(stage / "rl"), grade, rewarding, "word_problems:1")
    assert (other.answers, other.changed) == (3, 1)
    assert other.score == pytest.approx(2 / 3)
    assert rescored_table([same, other]).row_count == 1


def test_another_reward_needs_no_other_grades(stage: Path) -> None:
    (now,) = rescore(journal_of(stage), grade, Rewarding(RewardSettings(format=0.3), 16))
    assert now.changed == 0 and now.reward == pytest.approx((1.0 + 0.3 + 0.3) / 3)


def test_where_nothing_was_kept_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rollouts here"):
        journal_of(tmp_path)


def test_a_climb_is_scored_again_by_its_own_reward_and_starts_no_program_that_its_rollouts_name(tmp_path: Path) -> None:
    folder = tmp_path / "rl"
    train = {"reward": {"length": 0.5}, "max_tokens": 7, "steps": 3}
    with Checkpointer(folder / "checkpoints", {"train": train}) as checkpoints:
        checkpoints.save(1, {"model.x": torch.zeros(1)})
    group = Group("verifiers:x@theirs", Problem("?", ""), [answer("a")] * 2, [Grade(1.0, True)] * 2, [1.0, 0.0])
    Journal(folder / "rollouts").write(0, Sampled([group], [], 0, ""), "w")
    journal = journal_of(tmp_path)
    assert own_settings(journal) == {"reward": {"length": 0.5}, "max_tokens": 7}
    assert own_settings(Journal(tmp_path / "alone" / "rollouts")) == {}
    with pytest.raises(ValueError, match="give it as --env"):
        list(rescore(journal, grade, Rewarding(RewardSettings(), 16)))
