"""Packing of rollouts: every sampled token once, with what the sampler knew of it, and nothing of a neighbour."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inhouse.environments.environment import Grade, Problem
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.rl.objective.advantages import advantages
from inhouse.rl.objective.settings import ObjectiveSettings
from inhouse.rl.policy_batch import PolicyBatch, pack_groups
from inhouse.rl.rollouts import Group, Kept, Rollout

FILLER, LAYERS, K = 7, 2, 3


def rollout(number: int, prompt: int, answer: int, is_truncated: bool = True, is_routed: bool = True) -> Rollout:
    """Its ids count up from 100 × its number; each third token behind the prompt is a tool's."""
    ids = list(range(100 * number, 100 * number + prompt + answer))
    is_sampled = np.arange(answer) % 3 != 2
    sets = [np.array([token - 1, token, 10 * token], dtype=np.int32)[: 1 + token % 3] for token in ids[prompt:]]
    chosen = [each for each, is_own in zip(sets, is_sampled, strict=True) if is_own]
    kept = Kept(np.concatenate(chosen), np.cumsum([len(each) for each in chosen]))
    experts = np.array(ids[:-1], dtype=np.int16)[:, None, None] + np.arange(LAYERS * K).reshape(LAYERS, K)
    logprobs = np.where(is_sampled, -0.001 * np.array(ids[prompt:]), 0).astype(np.float32)
    return Rollout(
        ids[:prompt], ids[prompt:], is_sampled, logprobs, kept if is_truncated else None,
        experts.astype(np.int16) if is_routed else None, "stop", "", 0,
    )  # fmt: skip


def groups_of(shapes: list[list[tuple[int, int]]], **options: bool) -> list[Group]:
    found, number = list[Group](), 0
    for each in shapes:
        rollouts = [rollout(number + place, *shape, **options) for place, shape in enumerate(each, 1)]
        rewards = [float(place % 2) for place in range(len(each))]
        found.append(Group("any", Problem("", ""), rollouts, [Grade(r, True) for r in rewards], rewards))
        number += len(each)
    return found


shape = st.tuples(st.integers(1, 8), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(shape, min_size=2, max_size=5), min_size=1, max_size=4))
def test_every_sampled_token_stands_once_with_what_is_known_of_it(shapes: list[list[tuple[int, int]]]) -> None:
    groups = groups_of(shapes)
    batch = pack_groups(groups, 16, FILLER, ObjectiveSettings())
    assert batch.kept is not None and batch.experts_BTLK is not None
    found = {}
    for row, column in batch.is_trained_BT.nonzero().tolist():
        token = int(batch.targets_BT[row, column])
        start, end = [0, *batch.kept[row].ends_N.tolist()][column : column + 2]
        found[token] = (
            int(batch.tokens_BT[row, column]), float(batch.sampler_logprobs_BT[row, column]),
            float(batch.advantages_BT[row, column]), batch.kept[row].ids_M[start:end].tolist(),
        )  # fmt: skip
    expected = {}
    for group in groups:
        for each, advantage in zip(group.rollouts, advantages(group.rewards), strict=True):
            own = iter(np.split(each.kept.ids, each.kept.ends[:-1]))
            for token, is_own, logprob in zip(each.token_ids, each.is_sampled, each.sampler_logprobs, strict=True):
                if is_own:
                    expected[token] = token - 1, float(logprob), np.float32(advantage), next(own).tolist()
    assert found == expected
    is_seen = batch.documents_BT > 0
    assert torch.equal(batch.experts_BTLK[is_seen][:, 0, 0].long(), batch.tokens_BT[is_seen])
    assert (batch.experts_BTLK[~is_seen] == -1).all()
    assert (batch.tokens_BT[~is_seen] == FILLER).all()
    first = torch.cat((torch.ones(len(is_seen), 1).bool(), batch.documents_BT.diff(dim=1) != 0), dim=1)
    assert torch.equal(batch.positions_BT == 0, first)


def test_filler_rows_teach_nothing_and_rows_are_cut_as_they_lie() -> None:
    batch = pack_groups(groups_of([[(3, 6), (2, 9), (5, 5)]]), 12, FILLER, ObjectiveSettings())
    filled = batch.filled(7)
    assert len(filled.tokens_BT) == len(filled.kept) == 7
    assert not filled.is_trained_BT[len(batch.tokens_BT) :].any()
    parts = list(filled.split(3))
    assert [len(part.tokens_BT) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.targets_BT for part in parts]), filled.targets_BT)
    for whole, part in ((filled, parts[0]), (batch, batch.to(torch.device("cpu")))):
        sets, own = whole.kept_sets().mask(5000), part.kept_sets().mask(5000)
        assert torch.equal(sets[: len(own)], own)


def test_what_is_not_known_or_not_wanted_is_left_out() -> None:
    plain = pack_groups(groups_of([[(3, 6), (2, 9)]], is_truncated=False, is_routed=False), 12, 7, ObjectiveSettings())
    assert plain.kept is None and plain.experts_BTLK is None
    without = ObjectiveSettings(replay_kept=False, replay_experts=False)
    ablated = pack_groups(groups_of([[(3, 6), (2, 9)]]), 12, FILLER, without)
    assert ablated.kept is None and ablated.experts_BTLK is None
    same = zip(plain[:6], ablated[:6], strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in same)


def test_packing_is_a_function_of_its_arguments() -> None:
    first, second = (pack_groups(groups_of([[(3, 6), (2, 9), (5, 5)]]), 20, FILLER, ObjectiveSettings()) for _ in "ab")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first[:6], second[:6], strict=True))


def test_what_cannot_be_learnt_from_is_refused() -> None:
    def pack(groups: list[Group], length: int = 16) -> PolicyBatch:
        return pack_groups(groups, length, FILLER, ObjectiveSettings())

    with pytest.raises(ValueError, match=r"a rollout of 11 tokens, its prompt included, .* a row of 9 \+ 1"):
        pack(groups_of([[(3, 6), (2, 9)]]), 9)
    with pytest.raises(ValueError, match="a group of 1 rollouts"):
        pack(groups_of([[(3, 6)]]))
    with pytest.raises(ValueError, match="none of 0 groups"):
        pack([])
    (group,) = groups_of([[(3, 6), (2, 9)]])
    nobodys = [each._replace(is_sampled=np.zeros_like(each.is_sampled)) for each in group.rollouts]
    with pytest.raises(ValueError, match="none of 1 groups"):
        pack([group._replace(rollouts=nobodys)])
    assert (pack([group]).targets_BT != NOT_TRAINED).any()
