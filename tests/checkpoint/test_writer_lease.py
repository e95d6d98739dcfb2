"""Only the newest writer may publish."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inhouse.checkpoint.writer_lease import WriterLease


def test_a_newer_writer_shuts_out_the_older_one(tmp_path: Path) -> None:
    first = WriterLease(tmp_path)
    first.check()
    second = WriterLease(tmp_path)
    second.check()
    with pytest.raises(ValueError, match=f"process {os.getpid()} on .* has taken over this run"):
        first.check()
    assert [path.name for path in tmp_path.iterdir()] == [".writer-00000002"]  # tokens grow, files do not pile up


def test_no_two_that_start_at_once_have_one_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda _: WriterLease(tmp_path), range(40)))
    tokens = {lease.token for lease in leases}
    assert len(tokens) == 40
    allowed = []
    for lease in leases:
        try:
            lease.check()
            allowed.append(lease.token)
        except ValueError:
            pass
    assert allowed == [max(tokens)]
