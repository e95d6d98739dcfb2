"""Several processes on this machine that carry out one task together: started, watched, and ended as one.

Each finds its number and where to meet the others in its environment (RANK, LOCAL_RANK, WORLD_SIZE, INHOUSE_RANKS), a
line of text on its standard input, and the input's end when the process that started it is gone.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from inhouse.common.files import read_json, write_json

FOLDER = "INHOUSE_RANKS"  # of one task: the processes' meeting place, and what they say about their end
_POLL_SECONDS = 0.05
_FAILED_SECONDS = 3.0  # for the others to say what they saw: without one process none can finish its step
_SETTLE_SECONDS = 0.5  # in which the process that failed first gets to say why, where another was seen first


class Terminated(BaseException):
    """SIGTERM, as an exception: like KeyboardInterrupt, it passes every `except Exception`."""


class RankFailed(Exception):
    """One process of several ended in a way that is nobody's setting: which one, and how."""

    exit_status = 3


class RankLost(RankFailed):
    """One process of several died or hangs. Started again, they may well get further."""

    exit_status = os.EX_TEMPFAIL


def run_ranks(command: Sequence[str], count: int, line: str, grace_seconds: float = 30.0) -> None:
    """Run `command` in `count` processes until all have ended well, each reading `line` first.

    When one fails, or on Ctrl-C and SIGTERM in the caller, the others get SIGTERM, and SIGKILL later: `grace_seconds`
    where they can still save, else a few. Raises `ValueError` or `OSError` where a process did so with `as_rank`,
    `RankLost` where one was killed or given up by the others, `Terminated` where SIGTERM reached one and all have
    stopped for it, else `RankFailed`, naming the process.
    """
    with tempfile.TemporaryDirectory(prefix="inhouse-ranks-") as folder:
        processes: list[subprocess.Popen[str]] = []
        grace = _FAILED_SECONDS
        try:
            for rank in range(count):
                processes.append(_start(command, rank, count, line, folder))
            _wait(processes, Path(folder))
        except (KeyboardInterrupt, Terminated):
            grace = grace_seconds
            raise
        finally:
            _stop(processes, grace)


def as_rank(task: Callable[[str], None]) -> NoReturn:
    """Carry out `task(line)` as one of `run_ranks`' processes, and end the process: what a rank's `main` calls."""
    line = sys.stdin.readline()
    threading.Thread(target=end_with_parent, daemon=True).start()
    status = 0
    try:
        task(line)
    except BaseException as error:
        status = getattr(error, "exit_status", 1)
        is_users = isinstance(error, ValueError | OSError)
        is_terminated = isinstance(error, Terminated)
        trace = "" if is_users or is_terminated else traceback.format_exc()
        system = None
        if isinstance(error, OSError) and error.errno:
            system = (error.errno, error.strerror, str(error.filename) if error.filename else None)
        report = {
            "sentence": str(error), "is_users": is_users, "is_terminated": is_terminated, "system": system,
            "trace": trace, "time": time.time(),
        }  # fmt: skip
        write_json(Path(os.environ[FOLDER]) / f"{os.environ['RANK']}.json", report)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a broken process group can hang the interpreter's own ending


def _start(command: Sequence[str], rank: int, count: int, line: str, folder: str) -> "subprocess.Popen[str]":
    threads = max(1, (os.cpu_count() or 1) // count)
    defaults = {"OMP_NUM_THREADS": str(threads), "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), FOLDER: folder}
    # a session of its own: Ctrl-C reaches the launcher alone, which then ends the processes in order
    process = subprocess.Popen(
        command, env=defaults | os.environ | own, stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process


def _wait(processes: "list[subprocess.Popen[str]]", folder: Path) -> None:
    while any(process.poll() is None for process in processes):
        if any(process.poll() for process in processes):
            time.sleep(_SETTLE_SECONDS)
            break
        time.sleep(_POLL_SECONDS)
    statuses = [process.poll() for process in processes]
    if any(statuses):
        raise _failure(statuses, folder)


def _failure(statuses: list[int | None], folder: Path) -> BaseException:
    """What ended the task: a killed process first of all, else the one that reported first."""
    count = len(statuses)
    for rank, status in enumerate(statuses):
        if status == -signal.SIGTERM:
            return Terminated()  # before it could save: somebody wants all of it to stop
        if status is not None and status < 0:
            return RankLost(f"process {rank} of {count} was killed by {signal.Signals(-status).name}")
    files = {rank: folder / f"{rank}.json" for rank, status in enumerate(statuses) if status}
    reports = {rank: read_json(file) for rank, file in files.items() if file.exists()}
    said = [(report["time"], rank, report) for rank, report in reports.items()]
    if not said:
        rank = next(iter(files))
        kind = RankLost if statuses[rank] == RankLost.exit_status else RankFailed
        return kind(f"process {rank} of {count} ended with exit status {statuses[rank]}")
    _, rank, report = min(said, key=lambda each: each[:2])
    if report["is_terminated"]:
        return Terminated()
    if report["system"] is not None:
        return OSError(*report["system"])
    if report["is_users"]:
        return ValueError(report["sentence"])
    if statuses[rank] == RankLost.exit_status:
        return RankLost(report["sentence"])
    return RankFailed(f"process {rank} of {count} failed:\n{report['trace']}")


def _stop(processes: "list[subprocess.Popen[str]]", grace_seconds: float) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace_seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def end_with_parent() -> None:
    """Ends the process at the end of its input, whose other side its parent holds: what a thread runs."""
    sys.stdin.read()
    os._exit(1)
