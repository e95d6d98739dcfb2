"""Work spread over processes, its results in order, with a bounded number of pieces under way."""

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import chain, islice
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Worker(SpawnProcess):
    """A process that does not run the caller's script again: without `if __name__ == "__main__"` that would not end.

    What workers run lies in modules that are imported by name, so they need nothing of it.
    """

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")  # multiprocessing asks it what to run
        try:
            return SpawnProcess._Popen(process)
        finally:
            sys.modules["__main__"] = main


class _Context(SpawnContext):
    Process = _Worker


CONTEXT = _Context()  # of processes that start clean: no thread, lock or open file of this one is in them


def map_ordered(function: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """`map` over `processes` (0: one a core), at most two items a process under way; a single item stays in this one.

    Raises what `function` raises, and `ChildProcessError` where a process was killed.
    """
    processes = processes or _cores()
    items = iter(items)
    first = list(islice(items, 2))
    if processes == 1 or len(first) < 2:
        yield from map(function, chain(first, items))
        return
    listener, lifeline = CONTEXT.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, CONTEXT, initializer=_start_worker, initargs=(listener,))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in chain(first, items):
            if len(waiting) == 2 * processes:
                yield waiting.popleft().result()
            waiting.append(pool.submit(function, item))
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process was killed (usually for lack of memory); set `processes` lower and run again"
        ) from None
    finally:
        lifeline.close()  # after an error or Ctrl-C nobody waits for work under way
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(listener: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, args=(listener,), daemon=True).start()


def _end_with_parent(listener: Connection) -> None:
    """End this process when the lifeline's other end closes: its holder is done, or was itself killed."""
    with suppress(EOFError):
        listener.recv_bytes()
    os._exit(1)
