"""A scorer of others that evaluates what a model wrote, called where that can read and compute, and nothing else.

Unlike a program in the sandbox it needs its package, so it is a copy of this process, behind the same filter of system
calls: it writes no files, starts nothing, reaches nobody, and of what it says a number alone is taken.
"""

import fcntl
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from inhouse.environments.sandbox.limits import MIB
from inhouse.environments.sandbox.seccomp import install_filter, is_known_machine
from inhouse.environments.sandbox.system_calls import die_with_parent

_MEMORY = 1024 * MIB  # beyond what this process has
_LONGEST_NUMBER = 64  # bytes


def confined(score: Callable[[], float], seconds: float) -> float | None:
    """What `score()` gives; None where it raises, dies or gives no number.

    Raises `TimeoutError` where it has not ended after `seconds`, `ValueError` where this machine cannot hold it in.
    """
    if sys.platform != "linux" or not is_known_machine():
        raise ValueError("replies are evaluated on Linux on x86_64 or aarch64 alone: nothing else here holds them in")
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _score(score, theirs, seconds)
    os.close(theirs)
    try:
        said = _said(ours, time.monotonic() + seconds)
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if said == b"refused":
        raise ValueError("replies cannot be evaluated here: seccomp filters cannot be installed")
    try:
        return float(said)
    except ValueError:
        return None


def _said(ours: int, deadline: float) -> bytes:
    said = b""
    while len(said) <= _LONGEST_NUMBER:
        if not select.select([ours], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError("the scorer has not ended in time")
        piece = os.read(ours, _LONGEST_NUMBER + 1)
        if not piece:
            break
        said += piece
    return said


def _score(score: Callable[[], float], theirs: int, seconds: float) -> NoReturn:
    """In the copy: whatever it has open is closed before the reply is looked at, the pipes of verdicts among it."""
    try:
        die_with_parent()
        nothing = os.open(os.devnull, os.O_RDWR)
        pipe = fcntl.fcntl(theirs, fcntl.F_DUPFD, 4)
        for place, file in enumerate((nothing, nothing, nothing, pipe)):
            os.dup2(file, place)
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + _MEMORY)
        _limit(resource.RLIMIT_CPU, int(seconds) + 1)
        _limit(resource.RLIMIT_CORE, 0)
        try:
            install_filter()
        except OSError:
            os.write(3, b"refused")
            os._exit(1)
        os.write(3, repr(float(score())).encode())
    finally:
        os._exit(0)  # at once: nothing of the process that this is a copy of is to be ended here


def _limit(what: int, most: int) -> None:
    with suppress(ValueError):  # it is held to less already
        resource.setrlimit(what, (most, most))
