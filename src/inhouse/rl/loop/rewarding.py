"""What the answers of a group are worth, once they are graded."""

from collections.abc import Sequence

from inhouse.environments.environment import Grade, Problem
from inhouse.environments.reward import Answered, RewardSettings, rewards
from inhouse.rl.rollouts import Rollout


class Rewarding:
    """Rewards by `settings`, for a sampler. Length is a share of `max_tokens`, whatever the curriculum allows."""

    def __init__(self, settings: RewardSettings, max_tokens: int) -> None:
        self._settings, self._max_tokens = settings, max_tokens

    def __call__(self, problem: Problem, rollouts: Sequence[Rollout], grades: Sequence[Grade]) -> list[float]:
        pairs = zip(rollouts, grades, strict=True)
        return rewards(self._settings, problem, [self._answered(rollout, grade) for rollout, grade in pairs])

    def _answered(self, rollout: Rollout, grade: Grade) -> Answered:
        num_tokens, is_ended = int(rollout.is_sampled.sum()), rollout.finish_reason == "stop"
        return Answered(rollout.text, grade, num_tokens, self._max_tokens, is_ended, rollout.earlier)
