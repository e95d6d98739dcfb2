"""Runs Python that nobody vouches for: what a model wrote, and tests of it."""

import json
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from inhouse.environments.sandbox.limits import DEFAULT_LIMITS, Limits, check_kernel_limits, check_limits
from inhouse.environments.sandbox.seccomp import is_known_machine

SETTING = "INHOUSE_SANDBOX"
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from inhouse.environments.sandbox.server import main; main()"
_GRACE = 10.0  # seconds beyond a program's own, until its keeper must have reported
_LONGEST_WHY = 2_000  # characters: a program may end with a million of them


class Outcome(NamedTuple):
    """How a program ended: whether it came to its end, why not, what it printed, how much it computed.

    `is_late` where time, of either kind, or the sandbox's own end was what ended it: it may be another next time.
    `seconds`: CPU seconds.
    """

    is_done: bool
    why: str | None
    output: str
    is_late: bool = False
    seconds: float = 0.0


class Sandbox:
    """One server of programs, started with the first of them. Many threads may use it; close it, or let it go.

    A process that is forked from this one starts a server of its own. Raises `ValueError` where this machine cannot
    hold a program in: it is never run with less without being told to; `OSError` where it has no process left for one.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = check_limits(limits)
        self._server: _Server | None = None
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=partial(_forget, weakref.ref(self)))

    def run(self, program: str, text: str = "") -> Outcome:
        """Executes a program with `text` as its standard input."""
        with _file(text) as stdin:
            return self._start("run", program, stdin.fileno()).outcome()

    def check(self, solution: str, tests: str, names: Sequence[str], setup: str = "") -> Outcome:
        """Executes `tests`, in which `names` stand for functions of `solution`; done where the tests came to their end.

        `setup` is executed before the tests, in their process: trusted helpers. Arguments and results are plain data.
        Tests and solution are two processes, and the solution's never holds the tests (`program.py`).
        """
        stand_ins = "\n".join(f"{name} = remote({name!r})" for name in names)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            answering = self._start("serve", solution, theirs.fileno())
            grading = self._start("grade", f"{setup}\n{stand_ins}\n{tests}\n", ours.fileno())
        outcome = grading.outcome()
        ended = answering.outcome(at_once=True)
        if not outcome.is_done and not ended.is_done and ended.why:
            return ended._replace(
                seconds=outcome.seconds + ended.seconds
            )  # the solution says more of why than its tests
        return outcome._replace(output=ended.output, seconds=outcome.seconds + ended.seconds)

    def close(self) -> None:
        with self._lock:
            if self._server:
                self._server.close()
                self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _start(self, role: str, program: str, stdin: int) -> "_Running":
        with self._lock:
            if self._server is not None and not self._server.has_ended():
                try:
                    return self._server.start(role, program, stdin, self.limits)
                except ConnectionError:  # it ends just now; for want of files here it must not: others' programs run
                    pass
            if self._server is not None:
                self._server.close()
            check_kernel_limits(self.limits)
            self._server = _Server()
            return self._server.start(role, program, stdin, self.limits)


def _forget(sandbox: "weakref.ref[Sandbox]") -> None:
    """In a forked process: the server is the parent's, which it must not keep alive, and another thread of the parent
    may have held the lock."""
    if (mine := sandbox()) is not None:
        if mine._server is not None:
            mine._server.leave()
        mine._server, mine._lock = None, threading.Lock()


class _Server:
    """The client's end of a server, and the process that it is."""

    def __init__(self) -> None:
        mode = _mode()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        source = str(Path(__file__).parents[3])
        with theirs:
            self._process = subprocess.Popen(
                # nothing of the user's environment or packages is in its memory; no order hangs on a random hash
                [sys.executable, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", _START, source, mode],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={"PYTHONHASHSEED": "0"}, cwd="/", start_new_session=True,
            )  # fmt: skip
        refused = json.loads(self._socket.recv(4096) or b'"it ended as it began"')
        if refused:
            self.close()
            raise ValueError(
                f"untrusted programs cannot be held in here: this kernel, or the container around it, refuses "
                f"({refused}); allow user namespaces, or set {SETTING}=limits to run them with less around them"
            )

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def start(self, role: str, program: str, stdin: int, limits: Limits) -> "_Running":
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, errors = _file(""), _file("")
        with theirs, _file(program) as source:
            files = [theirs.fileno(), source.fileno(), output.fileno(), errors.fileno(), stdin]
            socket.send_fds(self._socket, [json.dumps({"role": role, "limits": limits._asdict()}).encode()], files)
        return _Running(control, output, errors, limits)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def leave(self) -> None:
        """To the process that has started it."""
        self._socket.close()
        self._process.returncode = 0


class _Running:
    """A program under way: closing `control` ends it."""

    def __init__(self, control: socket.socket, output: BinaryIO, errors: BinaryIO, limits: Limits) -> None:
        self._control, self._output, self._errors, self._limits = control, output, errors, limits

    def outcome(self, at_once: bool = False) -> Outcome:
        """How it ended, after waiting for its end; with `at_once` it is not waited for, but ended."""
        with self._control, self._output, self._errors:
            if at_once:
                self._control.shutdown(socket.SHUT_WR)
            self._control.settimeout(self._limits.wall_seconds + _GRACE)
            try:
                text = self._control.recv(4096)
            except TimeoutError:
                text = json.dumps({"code": -9, "is_late": True, "seconds": 0.0}).encode()
            except OSError:  # the server was killed
                text = b""
            output = _content(self._output, self._limits.output)
            if not text:
                return Outcome(False, "the sandbox ended before the program", output, is_late=True)
            report = json.loads(text)
            if "refused" in report:
                raise OSError(f"the sandbox could not start a program: {report['refused']}")
            if at_once and report["is_late"]:
                return Outcome(
                    True, None, output, seconds=report["seconds"]
                )  # it was well when nobody needed it any more
            why, is_late = self._why(report)
            return Outcome(why is None, why, output, is_late, report["seconds"])

    def _why(self, report: dict[str, float]) -> tuple[str | None, bool]:
        """What was wrong, if anything, and whether it was the time."""
        code = int(report["code"])
        if report["is_late"]:
            return f"not ended after {self._limits.wall_seconds:g} s", True
        if code == -9 and report["seconds"] >= 0.9 * self._limits.seconds:
            return f"more than {self._limits.seconds} s of computing", True
        if code < 0:
            return f"killed by signal {-code}", False
        said = _content(self._errors, self._limits.output).strip().rsplit("\n", 1)[-1]
        return (said[:_LONGEST_WHY] or f"exit code {code}") if code else None, False


def _mode() -> str:
    """`walls`, or `limits` where the user said so. Raises `ValueError` for other words and other machines."""
    asked = os.environ.get(SETTING, "walls")
    if asked not in ("walls", "limits"):
        raise ValueError(f'{SETTING} is "{asked}"; it is "walls" (or not set), or "limits"')
    if sys.platform != "linux" or not is_known_machine():
        raise ValueError(
            "untrusted programs are run on Linux on x86_64 or aarch64 alone: nothing else here holds them in"
        )
    return asked


def _file(text: str) -> BinaryIO:
    """A file in memory, which nobody finds by a name, with this text to be read."""
    file = os.fdopen(os.memfd_create("sandbox"), "w+b")
    file.write(text.encode(errors="replace"))
    file.seek(0)
    return file


def _content(file: BinaryIO, most: int) -> str:
    file.seek(0)
    return file.read(most).decode(errors="replace")
