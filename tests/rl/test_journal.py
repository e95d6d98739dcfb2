"""What the journal gives back is what it was given, to the bit, or a sentence."""

import shutil

import numpy as np
import pytest

from inhouse.engine.request import Kept
from inhouse.environments.environment import Grade, Problem
from inhouse.rl.journal import ARRAYS, GROUPS, STEP, TRIED, Journal
from inhouse.rl.queue import RolloutQueue
from inhouse.rl.rollouts import Group, Rollout
from inhouse.rl.sampling import Sampled, Tried


def rollout(seed: int, has_kept: bool = True, has_experts: bool = True) -> Rollout:
    rng = np.random.default_rng(seed)
    num_prompt, num_tokens = rng.integers(1, 9, 2).tolist()
    sizes = rng.integers(1, 5, num_tokens)
    return Rollout(
        prompt_ids=rng.integers(0, 300, num_prompt).tolist(),
        token_ids=rng.integers(0, 300, num_tokens).tolist(),
        is_sampled=rng.integers(0, 2, num_tokens).astype(bool),
        sampler_logprobs=-rng.random(num_tokens, dtype=np.float32),
        kept=Kept(rng.integers(0, 300, sizes.sum(), dtype=np.int32), sizes.cumsum()) if has_kept else None,
        experts=rng.integers(-1, 9, (num_prompt + num_tokens - 1, 2, 3), dtype=np.int16) if has_experts else None,
        finish_reason="stop",
        text="a “text”\n\ud800 of 0.1",
        weights_step=seed,
        earlier="I ask.",
    )


def sampled(seed: int = 0, **options: bool) -> Sampled:
    problem = Problem("1 + 1?", "2", None, '[{"type": "function", "function": {"name": "f"}}]')
    grades = [Grade(0.1 + 0.2, True, "nearly"), Grade(0.0, False, "late", is_late=True)]
    groups = [
        Group("sums:3", problem, [rollout(seed, **options), rollout(seed + 1, **options)], grades, [0.1, -1 / 3]),
        Group("strings", Problem("a", "b"), [rollout(seed + 2, **options)] * 2, grades, [1.0, 0.0]),
    ]
    tried = [Tried("sums:3", 2, 0.15, 1 / 3, 9, 0, 0, 1, is_early=False, is_dropped=False)]
    return Sampled(groups, tried, 3, "2 of 4 groups")


def assert_same(one: Sampled, other: Sampled) -> None:
    assert one[1:] == other[1:]
    for a, b in zip(one.groups, other.groups, strict=True):
        assert a._replace(rollouts=[]) == b._replace(rollouts=[])
        for x, y in zip(a.rollouts, b.rollouts, strict=True):
            for name, left, right in zip(Rollout._fields, x, y, strict=True):
                if name in ("is_sampled", "sampler_logprobs", "experts", "kept") and left is not None:
                    for p, q in zip(*((each if name == "kept" else [each]) for each in (left, right)), strict=True):
                        assert (p.dtype, p.shape, p.tobytes()) == (q.dtype, q.shape, q.tobytes()), name
                else:
                    assert left == right, name


@pytest.mark.parametrize("options", [{}, {"has_kept": False}, {"has_experts": False}])
def test_a_step_is_read_back_to_the_bit(options, tmp_path):
    journal = Journal(tmp_path / "rollouts")
    assert journal.steps == []
    assert journal.read(3) is None
    journal.write(3, sampled(**options), "aa")
    assert_same(journal.read(3, "aa"), sampled(**options))
    journal.write(3, sampled(7, **options), "bb")
    assert_same(journal.read(3), sampled(7, **options))
    assert journal.steps == [3]


def test_a_step_without_groups_is_one_too(tmp_path):
    journal = Journal(tmp_path)
    journal.write(0, Sampled([], [], 0, "0 of 4 groups"), "aa")
    assert journal.read(0) == Sampled([], [], 0, "0 of 4 groups")


@pytest.mark.parametrize("name", [GROUPS, TRIED, ARRAYS])
def test_a_damaged_step_is_refused(name, tmp_path):
    journal = Journal(tmp_path)
    journal.write(0, sampled(), "aa")
    path = journal.path(0) / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="00000000: rollouts are damaged; remove the folder"):
        journal.read(0)
    for missing in (name, STEP):
        (journal.path(0) / missing).unlink()
        with pytest.raises(ValueError, match="damaged"):
            journal.read(0)


def test_other_weights_are_refused(tmp_path):
    journal = Journal(tmp_path)
    journal.write(0, sampled(), "aa")
    with pytest.raises(ValueError, match="other weights than those of this climb"):
        journal.read(0, "ab")


def test_a_step_is_whole_or_absent_and_what_a_killed_process_left_is_in_nobodys_way(tmp_path):
    journal = Journal(tmp_path)
    journal.write(0, sampled(), "aa")
    for name in (".00000001.partial", ".00000000.gone"):
        shutil.copytree(journal.path(0), tmp_path / name)
        (tmp_path / name / GROUPS).unlink()
    assert journal.steps == [0]
    assert journal.read(1) is None
    journal.write(1, sampled(4), "ab")
    journal.write(0, sampled(5), "ac")
    assert_same(journal.read(1), sampled(4))
    assert_same(journal.read(0), sampled(5))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_step_k_learns_from_what_the_weights_of_k_minus_staleness_sampled_also_after_a_restart(staleness, tmp_path):
    done = []  # what was sampled, and by the weights of which step

    def queue(step: int) -> RolloutQueue:
        def sample(number: int) -> Sampled:
            done.append((number, now[0]))
            return sampled(1_000 * number + now[0])

        return RolloutQueue(sample, Journal(tmp_path), staleness)

    now = [0]
    running = queue(0)
    for step in range(6):
        now[0] = step
        if step == 4:
            running = queue(step)  # killed, and started again
        assert_same(running.next(step, f"{step:02}"), sampled(1_000 * step + max(step - staleness, 0)))
    assert done == [(number, max(number - staleness, 0)) for number in range(6 + staleness)]


def test_rollouts_of_another_climb_are_refused_even_where_the_weights_are_the_same(tmp_path):
    Journal(tmp_path, "sums").write(0, sampled(), "aa")
    assert_same(Journal(tmp_path, "sums").read(0, "aa"), sampled())
    assert_same(Journal(tmp_path).read(0), sampled())  # who looks at them only
    with pytest.raises(ValueError, match="of a climb with other settings, problems or another seed"):
        Journal(tmp_path, "products").read(0, "aa")


@pytest.mark.parametrize("step", ["[]", '{"files": 3}', "{", "null"])
def test_whatever_a_step_has_become_is_a_sentence(step, tmp_path):
    journal = Journal(tmp_path)
    journal.write(0, sampled(), "aa")
    (journal.path(0) / STEP).write_text(step)
    with pytest.raises(ValueError, match="00000000: rollouts are damaged; remove the folder"):
        journal.read(0)


def test_folders_that_are_no_steps_are_none(tmp_path):
    for name in ("2024", "٣٣٣٣٣٣٣٣", "000000001"):
        (tmp_path / name).mkdir()
    (tmp_path / "00000007").write_text("a file")
    assert Journal(tmp_path).steps == []
