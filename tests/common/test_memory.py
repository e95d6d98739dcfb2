"""The peak of a piece of work is its own: neither what was before it, nor what comes after."""

import subprocess
import sys
import time

import numpy as np
import pytest

from inhouse.common import memory
from inhouse.common.memory import PeakMemory

MIB = 1 << 20
pytestmark = pytest.mark.skipif(not memory._reset(), reason="this kernel does not reset high-water marks")


def take(mebibytes: int) -> None:
    np.ones(mebibytes * MIB, dtype=np.uint8)


def test_what_came_before_does_not_count() -> None:
    with PeakMemory() as large:
        take(300)
    with PeakMemory() as small:
        take(20)
    assert large.bytes - small.bytes > 200 * MIB
    with PeakMemory() as large_again:
        take(300)
    assert abs(large_again.bytes - large.bytes) < 60 * MIB


def test_of_processes_the_largest_counts_their_children_too() -> None:
    hold = "import sys; x = b'1' * (500 << 20); print(flush=True); sys.stdin.read()"
    between = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    with PeakMemory() as peak:
        child = subprocess.Popen([sys.executable, "-c", between], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout and child.stdin
        child.stdout.readline()  # it has them
        deadline = time.monotonic() + 60
        while peak._of_children < 500 * MIB and time.monotonic() < deadline:  # until it has been looked at
            time.sleep(0.02)
        child.stdin.close()
        child.wait()
    assert 500 * MIB <= peak.bytes < 2000 * MIB
    with PeakMemory() as later:
        pass
    assert later.bytes <= peak.bytes


def test_where_the_kernel_does_not_tell_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_reset", lambda: False)
    with PeakMemory() as peak:
        take(10)
    assert peak.bytes is None
