"""Rewards: what is added, what nothing makes up for, which goal decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inhouse.environments.environment import Grade, Problem
from inhouse.environments.reward import Answered, Goals, RewardSettings, composed, goals, rewards

PROBLEM = Problem("What is the sum of the two numbers that you can see in the picture?", "", "7")


def answered(score: float, reply: str = "Answer: 7", tokens: int = 50, is_parsed: bool = True, is_ended: bool = True):
    return Answered(reply, Grade(score, is_parsed), tokens, 100, is_ended)


def test_by_default_the_task_is_all():
    group = [answered(1), answered(0), answered(0.5), answered(1, is_ended=False)]
    assert rewards(RewardSettings(), PROBLEM, group) == [1, 0, 0.5, 0]


def test_goals_are_added_with_their_weights():
    settings = RewardSettings(language=0.25, format=0.5, length=0.4)
    group = [
        answered(1, "It is the seven that we are looking for, and so this is the answer.", 100),
        answered(0, "Es ist die Sieben, und das ist die Antwort auf die Frage.", 50),
        answered(0, is_parsed=False, tokens=0),
        answered(1, tokens=200),
    ]
    # half of them are right: a reply of all its tokens costs 0.4 / 2
    assert rewards(settings, PROBLEM, group) == pytest.approx([1.75 - 0.2, 0.5 - 0.1, 0.25, 1.75 - 0.2])


def test_length_costs_nothing_where_nothing_is_right():
    settings = RewardSettings(length=1.0)
    assert rewards(settings, PROBLEM, [answered(0, tokens=10), answered(0, tokens=90)]) == [0, 0]
    assert rewards(settings, PROBLEM, [answered(1, tokens=10), answered(1, tokens=90)]) == pytest.approx([0.9, 0.1])


def test_nothing_makes_up_for_what_a_gate_refuses():
    settings = RewardSettings(language=1.0, format=1.0, length=0.5, refused=("(?i)rm -rf",))
    group = [answered(1, "RM -RF /\nAnswer: 7", 1), answered(0, "x", 100, is_parsed=False, is_ended=False)]
    first, second = rewards(settings, PROBLEM, group)
    assert first == -1.5
    assert second - first >= 1
    refuse_all = rewards(settings, PROBLEM, group, [lambda problem, reply: "never"])
    assert refuse_all == [-1.5, -1.5]
    assert goals(settings, PROBLEM, group)[0].refused == '"(?i)rm -rf" is found'
    assert rewards(settings.model_copy(update={"order": ("task",)}), PROBLEM, group)[0] == -1.5


_values = st.sampled_from((0.0, 0.25, 0.5, 1.0))


@given(st.lists(st.builds(Goals, _values, _values, _values, _values, st.none()), min_size=2, max_size=6))
def test_with_an_order_the_first_goal_that_differs_decides(group):
    rewarded = composed(RewardSettings(order=("task", "format", "length")), group)
    keys = [(each.task, each.format, 1 - each.length) for each in group]
    for one, first in zip(keys, rewarded, strict=True):
        for other, second in zip(keys, rewarded, strict=True):
            assert (one < other) == (first < second)
    for each, reward in zip(group, rewarded, strict=True):
        assert each.task <= reward <= each.task + 0.12


def test_bad_settings_are_sentences():
    with pytest.raises(ValidationError, match="a goal stands twice in task, task"):
        RewardSettings(order=("task", "task"))
    with pytest.raises(ValidationError, match=r'"\(" is no regular expression'):
        RewardSettings(refused=("(",))


def test_a_gate_sees_the_turns_before_the_last_one_too():
    settings, grade = RewardSettings(refused=("rm -rf",)), Grade(1.0, True)
    answered = [Answered("Answer: 8", grade, 4, 8, True, earlier) for earlier in ("I call rm -rf.", "")]
    assert rewards(settings, PROBLEM, answered) == [-1.0, 1.0]
