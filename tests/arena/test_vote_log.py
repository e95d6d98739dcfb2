"""What was stored is there: after crashes at any byte, with several processes, and for known models only."""

import multiprocessing
import os
from pathlib import Path

import pytest
from tests.arena.tamper import KEY, make_log, vote

from inhouse.arena import vote_log
from inhouse.arena.log_format import read_key
from inhouse.arena.tampering import check_log
from inhouse.arena.vote_log import VoteLog


def opened(folder: Path) -> VoteLog:
    return VoteLog(folder / "votes.jsonl", folder / "kept" / "head.json", KEY)


def votes_in(log: VoteLog) -> list[str]:
    checked = check_log(log.path, log.head_path, KEY)
    checked.refuse()
    assert not checked.is_torn
    return [str(entry.body["voter"]) for entry in checked.entries if entry.kind == "vote"]


def test_a_crash_at_any_byte_of_an_append_loses_no_stored_vote_and_keeps_no_piece(tmp_path: Path) -> None:
    log = make_log(tmp_path, votes=2)
    before = (tmp_path / "votes.jsonl").read_bytes()
    opened(tmp_path).append([vote("a", "b", "left", "last")])
    after = (tmp_path / "votes.jsonl").read_bytes()
    line_bytes = len(after) - len(before)
    for written in [*range(0, line_bytes, 29), line_bytes - 1, line_bytes]:
        (tmp_path / "votes.jsonl").write_bytes(after[: len(before) + written])
        (tmp_path / "kept" / "head.json").write_bytes(log.head)
        checked = check_log(tmp_path / "votes.jsonl", tmp_path / "kept" / "head.json", KEY)
        assert checked.findings == () and checked.is_torn == (0 < written < line_bytes)
        again = opened(tmp_path)
        again.append([vote("b", "a", "tie", "next")])
        assert votes_in(again) == ["ann", "ann", *["last"] * (written == line_bytes), "next"]


def test_a_disk_that_fills_up_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(tmp_path)
    log.join(["a", "b"])
    before = log.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(vote_log.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            log.append([vote("a", "b", "left")])
    assert log.path.read_bytes() == before
    log.append([vote("a", "b", "left")])
    assert votes_in(log) == ["ann"]


def append_many(folder: Path, voter: str) -> None:
    log = opened(folder)
    for _ in range(15):
        log.append([vote("a", "b", "left", voter)])


def test_two_processes_append_to_one_log(tmp_path: Path) -> None:
    opened(tmp_path).join(["a", "b"])
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=append_many, args=(tmp_path, voter)) for voter in ("x", "y")]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(votes_in(opened(tmp_path))) == ["x"] * 15 + ["y"] * 15


def test_models_that_joined_stay_and_are_known_to_others(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.join(["a", "b", "a"])
    second.append([vote("a", "b", "right")])
    first.join(["b", "c"])
    assert opened(tmp_path).models == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"left": "mistral-larg"}, "'mistral-larg', which is none of the board's 2 models; nearest: mistral-large"),
        ({"right": "mistral-large"}, "battles itself"),
        ({"winner": "lft"}, "winner is 'lft', not left, right or tie"),
        ({"voter_kind": "robots"}, "'robots', not people or judges"),
        ({"voter": ""}, "without voter"),
        ({"wiener": "left"}, "no field 'wiener'"),
    ],
)
def test_a_vote_that_cannot_be_counted_is_refused_and_nothing_written(
    tmp_path: Path, change: dict[str, str], said: str
) -> None:
    log = opened(tmp_path)
    log.join(["mistral-large", "gpt-4"])
    before = log.path.read_bytes()
    with pytest.raises(ValueError, match=said):
        log.append([vote("mistral-large", "gpt-4", "left"), vote("mistral-large", "gpt-4", "tie") | change])
    assert log.path.read_bytes() == before


def test_nothing_is_appended_to_a_log_that_was_tampered_with(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.join(["a", "b"])
    log.append([vote("a", "b", "left")])
    os.truncate(log.path, 10)
    with pytest.raises(ValueError, match="entries 1 to 3 are missing at the end"):
        opened(tmp_path)
    with pytest.raises(ValueError, match="10 bytes where 3 entries"):
        log.append([vote("a", "b", "left")])
    log.path.write_bytes(b'{"forged": true}' * 100 + b"\n")
    with pytest.raises(ValueError, match="nothing was written"):
        log.append([vote("a", "b", "left")])


def test_a_short_key_is_refused_with_a_way_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"secret\n")
    with pytest.raises(ValueError, match="a key of 6 bytes; 32 at least"):
        read_key(tmp_path / "key")
