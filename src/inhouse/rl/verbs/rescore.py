"""Rollouts that a climb kept, worth something else: graded by another verifier, or rewarded otherwise."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from inhouse.checkpoint.weights import kept_checkpoints
from inhouse.environments.environment import Grade
from inhouse.environments.verdicts import Ask
from inhouse.rl.journal import Journal
from inhouse.rl.loop.rewarding import Rewarding
from inhouse.rl.rollouts import Group
from inhouse.rl.sampling import GradeAll

FOLDER = "rollouts"  # of a stage


class Rescored(NamedTuple):
    """One group, as it was and as it is now; `changed` of its `answers` have another score."""

    sampling: int
    environment: str
    prompt: str
    answers: int
    changed: int
    score_before: float
    score: float
    reward_before: float
    reward: float


def own_settings(journal: Journal) -> dict[str, Any]:
    """What the climb that kept these rollouts rewarded by, as a table rl; empty where it has no checkpoint that says.

    Raises `ValueError` where the checkpoint is damaged.
    """
    kept = kept_checkpoints(journal.folder.parent)
    train = kept[-1].facts.get("train", {}) if kept else {}
    return {name: train[name] for name in ("reward", "max_tokens") if name in train}


def journal_of(path: Path) -> Journal:
    """The rollouts of a run, of its stage `rl`, or in the folder itself. Raises `ValueError` where there are none."""
    for folder in (path, path / FOLDER, path / "rl" / FOLDER, path / ".rl.partial" / FOLDER):
        journal = Journal(folder)
        if journal.steps:
            return journal
    raise ValueError(f"{path}: no rollouts here; give a run with an rl stage, or the folder rollouts of one")


def rescore(
    journal: Journal, grade: GradeAll, rewarding: Rewarding, environment: str | None = None
) -> Iterator[Rescored]:
    """Every group of the journal, graded again by its own environment's verifier, or by that of `environment`.

    Nothing is sampled. Answers that their limit had ended stay worth nothing. Raises `ValueError` as `grade` and
    `Journal.read` do.
    """
    for number in journal.steps:
        sampled = journal.read(number)
        assert sampled is not None
        for group in sampled.groups:
            if environment is None and group.environment.startswith("verifiers:"):
                raise ValueError(
                    f"{journal.folder}: rollouts of {group.environment}, whose program is started for those alone who "
                    "name it: give it as --env"
                )
            grades = _graded(group, grade, environment or group.environment)
            rewards = rewarding(group.problem, group.rollouts, grades)
            pairs = list(zip(group.grades, grades, strict=True))
            yield Rescored(
                sampling=number,
                environment=group.environment,
                prompt=group.problem.prompt,
                answers=len(grades),
                changed=sum(before.score != now.score for before, now in pairs),
                score_before=fmean(before.score for before, _ in pairs),
                score=fmean(now.score for _, now in pairs),
                reward_before=fmean(group.rewards),
                reward=fmean(rewards),
            )


def _graded(group: Group, grade: GradeAll, environment: str) -> list[Grade]:
    ended = [number for number, rollout in enumerate(group.rollouts) if rollout.finish_reason == "stop"]
    found = grade([Ask(environment, group.problem, group.rollouts[number].text) for number in ended])
    grades = list(group.grades)
    for number, new in zip(ended, found, strict=True):
        grades[number] = new
    return grades
