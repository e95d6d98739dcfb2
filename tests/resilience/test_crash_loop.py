"""Three identical failures stop the restarts; anything else does not."""

from pathlib import Path

import pytest

from inhouse.resilience.crash_loop import Failure, check_crash_loop, forget_failures, record_failure


def fail(folder: Path, *failures: Failure) -> None:
    for failure in failures:
        check_crash_loop(folder)
        record_failure(folder, failure)


SAME = Failure.of(ValueError("shard 3 is damaged"), 17)


def test_three_identical_failures_stop_with_a_diagnosis(tmp_path: Path) -> None:
    fail(tmp_path, SAME, SAME, SAME)
    with pytest.raises(ValueError, match=r"last 3 attempts ended alike, after step 17.*ValueError: shard 3 is damaged"):
        check_crash_loop(tmp_path)


@pytest.mark.parametrize(
    "other",
    [Failure.of(ValueError("shard 3 is damaged"), 18), Failure.of(KeyError("x"), 17), Failure.of(ValueError("y"), 17)],
)
def test_another_failure_or_step_starts_the_count_anew(tmp_path: Path, other: Failure) -> None:
    fail(tmp_path, SAME, SAME, other, SAME, SAME)
    check_crash_loop(tmp_path)


def test_who_changed_something_starts_the_count_anew(tmp_path: Path) -> None:
    same = [SAME._replace(setup=setup) for setup in ("a", "b")]
    fail(tmp_path, same[0], same[0], same[0]._replace(setup="b"))
    check_crash_loop(tmp_path, "b")
    fail(tmp_path, same[1], same[1])
    check_crash_loop(tmp_path, "c")
    with pytest.raises(ValueError, match="ended alike"):
        check_crash_loop(tmp_path, "b")


def test_progress_starts_the_count_anew(tmp_path: Path) -> None:
    fail(tmp_path, SAME, SAME)
    forget_failures(tmp_path)
    fail(tmp_path, SAME, SAME)
    check_crash_loop(tmp_path)


def test_ports_and_addresses_do_not_tell_failures_apart(tmp_path: Path) -> None:
    texts = [f"Connection closed by peer [127.0.0.1]:{port} <object at 0x{port:x}>" for port in (40123, 502, 33333)]
    fail(tmp_path, *(Failure("RuntimeError", text, 3) for text in texts))
    with pytest.raises(ValueError, match="ended alike"):
        check_crash_loop(tmp_path)


def test_who_saw_a_rank_die_first_does_not_tell_failures_apart(tmp_path: Path) -> None:
    seen = ("0 saw: Connection closed by peer [::1]:40123", "3 saw: [gloo] Read error (reset)", "1 saw: x")
    fail(tmp_path, *(Failure("RankLost", f"rank 2 ended in the backward of step 5 (rank {text})", 4) for text in seen))
    with pytest.raises(ValueError, match="rank 2 ended in the backward of step 5"):
        check_crash_loop(tmp_path)


def test_how_many_collectives_came_before_does_not_tell_failures_apart(tmp_path: Path) -> None:
    texts = [f"rank 1 hung in f in a.py:1, after all_reduce of [4], collective {number} of 3 ranks" for number in "123"]
    fail(tmp_path, *(Failure("RankLost", text, 3) for text in texts))
    with pytest.raises(ValueError, match="ended alike"):
        check_crash_loop(tmp_path)


def test_another_rank_is_another_failure(tmp_path: Path) -> None:
    fail(tmp_path, *(Failure("RankLost", f"rank {rank} ended (rank 0 saw: x)", 4) for rank in (1, 1, 2, 1, 1)))
    check_crash_loop(tmp_path)
