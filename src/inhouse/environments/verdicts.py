"""What many replies are worth, asked of verifiers that may crash, hang or take their process with them.

Each verifier runs in a process beside this one, for so many seconds at most. Whatever it does, its reply has a grade in
the end: 0, and why. Only where too many of an environment's verdicts fail in this way does it end with a sentence.
"""

import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import NamedTuple, Self

from inhouse.data.process_pool import CONTEXT
from inhouse.environments.environment import Environment, Grade, Problem
from inhouse.environments.registry import environment_of

Resolve = Callable[[str], Environment]
_LOADING_SECONDS = 60.0  # for a process to start and to load an environment, which may import a large package
_EXTENSIONS = 5  # times that a process which waits for a processor gets its seconds again
_WINDOW, _LEAST = 200, 20  # the latest verdicts of an environment, and how many of them a share needs
_LONGEST_WHY = 500  # characters


class Ask(NamedTuple):
    """A reply to a problem of the environment of this name."""

    environment: str
    problem: Problem
    reply: str


class Verdicts:
    """Grades replies in `workers` processes, each within `seconds`, or its environment's own where these are more.

    A verifier that crashes, hangs, gives no grade between 0 and 1, or whose process dies: its reply is graded 0, not
    parsed, with why; `is_late` where it was no error of the verifier's own code, so that another time it may be
    otherwise. A reply whose process died is asked about once more: somebody may have ended it. `failures` counts these
    by environment and why, `num_graded` all verdicts. Environments are found in the workers by `resolve`, a function at
    the top of a module. Many threads may ask, one at a time is answered.
    """

    def __init__(
        self, workers: int = 1, seconds: float = 5.0, most_failed: float = 0.5, resolve: Resolve = environment_of
    ) -> None:
        if workers < 1 or seconds <= 0 or not 0 <= most_failed <= 1:
            raise ValueError(
                f"verdicts need a worker, some seconds and a share of failures between 0 and 1, not {workers}, "
                f"{seconds:g} and {most_failed:g}"
            )
        self.seconds, self.most_failed = seconds, most_failed
        self.failures: Counter[tuple[str, str]] = Counter()
        self.num_graded = 0
        self._resolve = resolve
        self._workers: list[_Worker | None] = [None] * workers
        self._recent: dict[str, deque[str | None]] = {}  # of each environment: why a verdict failed, or None
        self._lock = Lock()

    def grade(self, asks: Sequence[Ask]) -> list[Grade]:
        """A grade for each, in their order: whatever the number of workers, the same where none fails.

        Raises `ValueError` where more than the share `most_failed` of an environment's latest verdicts failed.
        """
        with self._lock:
            grades = self._graded(asks)
        self._check_share()
        return grades

    def close(self) -> None:
        with self._lock:
            for worker in self._workers:
                if worker is not None:
                    worker.end()
            self._workers = [None] * len(self._workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _graded(self, asks: Sequence[Ask]) -> list[Grade]:
        grades: dict[int, Grade] = {}
        waiting = deque(range(len(asks)))
        busy: dict[int, int] = {}  # the place of a worker: the number of what it was asked
        died_on: set[int] = set()
        try:
            while waiting or busy:
                for place in range(len(self._workers)):
                    if place not in busy and waiting:
                        busy[place] = waiting.popleft()
                        self._give(place, asks[busy[place]])
                for place in self._heard(list(busy)):
                    number = busy.pop(place)
                    if self._is_dead(place) and number not in died_on:  # it may have been ended from outside
                        died_on.add(number)
                        waiting.appendleft(number)
                        self._replace(place)
                    else:
                        grades[number] = self._settled(place, asks[number])
        finally:
            for place in busy:  # Ctrl-C: nobody waits for what they do
                self._replace(place)
        return [grades[number] for number in range(len(asks))]

    def _give(self, place: int, ask: Ask) -> None:
        """To a new process where the last one died with nothing to do."""
        worker = self._workers[place]
        if worker is not None:
            with suppress(OSError):
                worker.give(ask)
                return
            self._replace(place)
        worker = self._workers[place] = _Worker(self._resolve, self.seconds)
        with suppress(OSError):  # heard as the end of its process
            worker.give(ask)

    def _heard(self, busy: Sequence[int]) -> list[int]:
        """The workers that have answered, died, or used up their time, after waiting for one."""
        workers = {place: self._workers[place] for place in busy}
        deadline = min(worker.deadline for worker in workers.values() if worker)
        answered = wait([worker.ours for worker in workers.values() if worker], max(0.0, deadline - time.monotonic()))
        heard = []
        for place, worker in workers.items():
            assert worker is not None
            if worker.ours in answered:
                worker.hear()
            if worker.answer is not None or worker.is_overdue():
                heard.append(place)
        return heard

    def _is_dead(self, place: int) -> bool:
        worker = self._workers[place]
        return worker is not None and worker.is_dead

    def _settled(self, place: int, ask: Ask) -> Grade:
        worker = self._workers[place]
        assert worker is not None and worker.answer is not None
        grade, why, is_late = worker.answer
        if worker.is_lost:
            self._replace(place)
        self.num_graded += 1
        recent = self._recent.setdefault(ask.environment, deque(maxlen=_WINDOW))
        recent.append(why)
        if why is not None:
            self.failures[ask.environment, why] += 1
        return Grade(0.0, False, why, is_late) if grade is None else grade

    def _replace(self, place: int) -> None:
        worker, self._workers[place] = self._workers[place], None
        if worker is not None:
            worker.kill()

    def _check_share(self) -> None:
        for name, recent in self._recent.items():
            failed = Counter(why for why in recent if why is not None)
            if len(recent) >= _LEAST and failed.total() > self.most_failed * len(recent):
                often = "; ".join(f"{count:,} times {why}" for why, count in failed.most_common(2))
                raise ValueError(
                    f"the verifier of {name} failed on {failed.total():,} of the last {len(recent):,} replies, more "
                    f"than a share of {self.most_failed:g}: {often}; mend it, or give it more seconds than "
                    f"{self.seconds:g}"
                )


class _Answer(NamedTuple):
    """The grade; or why there is none, and whether that is no fault of the verifier's own code."""

    grade: Grade | None
    why: str | None = None
    is_late: bool = False


class _Loaded(NamedTuple):
    """An environment is ready in its worker; `seconds` where its verifier bounds itself."""

    seconds: float | None


class _Worker:
    """A process that grades one reply after another, and this process's end of the pipe to it."""

    def __init__(self, resolve: Resolve, seconds: float) -> None:
        self.ours, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_serve, args=(theirs, resolve, seconds), daemon=True)
        self._process.start()
        theirs.close()
        self._usual = seconds
        self._seconds: dict[str, float] = {}  # of the environments that it has loaded
        self._asked = ""
        self._computed = 0.0  # seconds of the processor, until it was asked
        self._extensions = 0
        self.answer: _Answer | None = None
        self.is_dead = False
        self.is_lost = False  # dead, or still at what nobody waits for any more
        self.deadline = 0.0

    def give(self, ask: Ask) -> None:
        """Raises `OSError` where the process is gone."""
        self.answer, self._asked = None, ask.environment
        self._begin()
        self.ours.send(ask)

    def hear(self) -> None:
        """Takes one message: that the environment is loaded, or the answer."""
        try:
            message = self.ours.recv()
        except (EOFError, OSError):
            self._process.join(1.0)
            self.is_dead = True
            self._lose(f"the verifier's process died ({_how(self._process.exitcode)})")
            return
        if isinstance(message, _Loaded):
            self._seconds[self._asked] = max(self._usual, message.seconds or 0.0)
            self._begin()
        else:
            self.answer = message

    def is_overdue(self) -> bool:
        """Whether its time is over. A process that waits for a processor, and has not computed for so long, gets more:
        a busy machine is no verdict."""
        if time.monotonic() < self.deadline:
            return False
        state, computed = _state(self._process.pid)
        if state == "R" and computed - self._computed < self._allowed() and self._extensions < _EXTENSIONS:
            self._extensions += 1
            self.deadline = time.monotonic() + self._allowed()
            return False
        is_loaded = self._asked in self._seconds
        what = "the verifier has not ended" if is_loaded else "the environment was not loaded"
        self._lose(f"{what} after {self._allowed():g} s")
        return True

    def _lose(self, why: str) -> None:
        self.answer, self.is_lost = _Answer(None, why, is_late=True), True

    def end(self) -> None:
        self.ours.close()
        self._process.join(1.0)
        self.kill()

    def kill(self) -> None:
        self.ours.close()
        self._process.kill()
        self._process.join()

    def _begin(self) -> None:
        self.deadline = time.monotonic() + self._allowed()
        self._computed, self._extensions = _state(self._process.pid)[1], 0

    def _allowed(self) -> float:
        return self._seconds.get(self._asked, _LOADING_SECONDS)


def _state(pid: int | None) -> tuple[str, float]:
    """What a process does (`R`: it computes, or waits for a processor), and how long it has computed; "" and 0 where
    the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return "", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return "no exit code" if code is None else f"exit code {code}"
    return signal.Signals(-code).name


def _serve(asked: Connection, resolve: Resolve, usual: float) -> None:
    """What a worker does until the other end of its pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process, even in a search that lets no thread run
    environments: dict[str, Environment] = {}
    with suppress(EOFError, OSError):
        while True:
            ask = asked.recv()
            try:
                if ask.environment not in environments:
                    environments[ask.environment] = resolve(ask.environment)
                    asked.send(_Loaded(environments[ask.environment].seconds))
                environment = environments[ask.environment]
                allowed = max(usual, environment.seconds or 0.0)
                signal.setitimer(signal.ITIMER_REAL, (_EXTENSIONS + 2) * allowed)  # whoever waits may be gone
                answer = _Answer(_grade(environment, ask))
            except (Exception, SystemExit) as error:
                why = f"{type(error).__name__}: {error}"[:_LONGEST_WHY]
                answer = _Answer(None, why, isinstance(error, OSError))
            signal.setitimer(signal.ITIMER_REAL, 0)
            asked.send(answer)
    os._exit(0)


def _grade(environment: Environment, ask: Ask) -> Grade:
    if environment.score is None:
        raise ValueError(f"{environment.name} has no verifier")
    grade = environment.score(ask.problem, ask.reply)
    if not 0 <= grade.score <= 1:
        raise ValueError(f"it gave {grade.score}, which is not between 0 and 1")
    return grade
