"""Whatever is done to a log without its key is found, and named."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.arena.tamper import KEY, KINDS_OF_TAMPERING, OTHER_KEY, Log, make_log, tamper, watch

from inhouse.arena.tampering import check_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return make_log(tmp_path_factory.mktemp("log"), votes=17)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(KINDS_OF_TAMPERING), seed=st.integers(0, 2**32))
def test_every_kind_of_tampering_is_found_and_named(log: Log, kind: str, seed: int) -> None:
    tampered = tamper(log, kind, Random(seed))
    findings, is_named = watch(log, tampered)
    assert is_named, (kind, tampered.named, findings)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 40))
def test_any_bytes_written_over_the_log_are_found(log: Log, seed: int, length: int) -> None:
    draw = Random(seed)
    data = b"".join(line + b"\n" for line in log.lines)
    place = draw.randrange(len(data) - length)
    written = data[:place] + draw.randbytes(length) + data[place + length :]
    path = log.folder / "over.jsonl"
    path.write_bytes(written)
    assert bool(check_log(path, log.folder / "kept" / "head.json", KEY).findings) == (written != data)


def test_a_whole_log_has_no_findings(log: Log) -> None:
    checked = check_log(log.folder / "votes.jsonl", log.folder / "kept" / "head.json", KEY)
    assert checked.findings == () and not checked.is_torn
    assert [entry.number for entry in checked.entries] == list(range(1, 21))
    checked.refuse()


def test_with_another_key_the_head_is_refused_too(log: Log) -> None:
    checked = check_log(log.folder / "votes.jsonl", log.folder / "kept" / "head.json", OTHER_KEY)
    assert "not signed with this key" in checked.findings[0]
    with pytest.raises(ValueError, match="not as it was written"):
        checked.refuse()


def test_neighbours_that_are_missing_are_one_finding(log: Log) -> None:
    path = log.folder / "gap.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in log.lines[:4] + log.lines[7:]))
    assert check_log(path, log.folder / "kept" / "head.json", KEY).findings == ("entries 5 to 7 are missing",)


def test_without_a_key_the_chain_alone_is_read(log: Log) -> None:
    assert check_log(log.folder / "votes.jsonl", None, None).findings == ()
    path: Path = log.folder / "chain.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in log.lines[:2] + log.lines[3:]))
    assert check_log(path, None, None).findings == ("entry 3 is missing",)
