"""Processes started as one end as one, and what is said about it names the one that failed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inhouse.common import processes
from inhouse.common.processes import RankFailed, Terminated, run_ranks

RANK = """
import os, signal, sys, time
from pathlib import Path
from inhouse.common.processes import Terminated
from inhouse.common.processes import as_rank
def task(line):
    rank = os.environ["RANK"]
    Path(sys.argv[1], rank).write_text(line.strip() + os.environ["WORLD_SIZE"])
    {body}
as_rank(task)
"""


def run(folder: Path, body: str) -> None:
    run_ranks([sys.executable, "-c", RANK.format(body=body), str(folder)], 3, "hello ", grace_seconds=5.0)


def pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


WRITE_PID = "Path(sys.argv[1], rank + '.pid').write_text(str(os.getpid()))"


def test_every_process_has_its_number_and_the_line(tmp_path: Path) -> None:
    run(tmp_path, "pass")
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == ["hello3"] * 3


def test_a_mistake_of_the_user_comes_back_as_it_was_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^lower the learning rate$"):
        run(tmp_path, "raise ValueError('lower the learning rate')")


def test_a_full_disk_comes_back_as_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as error:
        run(tmp_path, "raise OSError(28, 'No space left on device', 'step-7')")
    assert (error.value.errno, error.value.filename) == (28, "step-7")


@pytest.mark.parametrize(
    "body",
    [
        "from inhouse.common.processes import Terminated; raise Terminated",
        "signal.raise_signal(signal.SIGTERM) if rank == '1' else time.sleep(9)",
    ],
)
def test_sigterm_of_processes_is_one_of_all(body: str, tmp_path: Path) -> None:
    with pytest.raises(Terminated):
        run(tmp_path, body)


def test_the_process_that_failed_is_named_and_the_others_end(tmp_path: Path) -> None:
    body = (
        WRITE_PID
        + """
    if rank == "1":
        raise RuntimeError("broken")
    time.sleep(60)"""
    )
    with pytest.raises(RankFailed, match=r"process 1 of 3 failed:\n(?s:.*)RuntimeError: broken"):
        run(tmp_path, body)
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_a_killed_process_is_named_and_one_that_ignores_sigterm_is_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_FAILED_SECONDS", 0.3)
    body = (
        "signal.signal(15, signal.SIG_IGN); " + WRITE_PID + "; os.kill(os.getpid(), 9 * (rank == '2')); time.sleep(60)"
    )
    with pytest.raises(RankFailed, match="process 2 of 3 was killed by SIGKILL"):
        run(tmp_path, body)
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_processes_end_when_what_started_them_is_killed(tmp_path: Path) -> None:
    body = WRITE_PID + "; time.sleep(60)"
    code = f"""
from inhouse.common.processes import Terminated
from inhouse.common.processes import run_ranks
import sys
run_ranks([sys.executable, "-c", {RANK.format(body=body)!r}, {str(tmp_path)!r}], 2, "x")
"""
    launcher = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 180
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    while any(is_alive(pid) for pid in pids(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(pids(tmp_path)) == 2
    assert not any(is_alive(pid) for pid in pids(tmp_path))
