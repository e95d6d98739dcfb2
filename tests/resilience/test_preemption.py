"""SIGTERM asks; a second one does not reach into the save; the grace period is kept."""

import os
import signal
import subprocess
import sys
import time

import pytest

from inhouse.resilience.preemption import TERMINATED, StopRequest


def test_sigterm_is_a_request_once_and_twice() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(60.0) as stop:
        assert not stop.requested
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert stop.requested
    assert signal.getsignal(signal.SIGTERM) is before


STUCK = """
import os, signal, time
from inhouse.resilience.preemption import StopRequest
with StopRequest(0.3):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_without_a_checkpoint_the_process_ends_after_the_grace_period() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=180)
    assert done.returncode == TERMINATED
    assert "no checkpoint within the grace period of 0.3 s" in done.stderr


@pytest.mark.parametrize("grace", [1.0])
def test_leaving_in_time_ends_the_countdown(grace: float) -> None:
    with StopRequest(grace):
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1.3 * grace)  # this process is still here
