"""Work spread over processes, its results in order, with a bounded number of pieces under way."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import chain, islice
from multiprocessing.connection import Connection
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    context = multiprocessing.get_context("spawn")
    listener, lifeline = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, initializer=_start_worker, initargs=(listener,))
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
