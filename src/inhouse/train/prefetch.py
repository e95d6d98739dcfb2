"""Batches read ahead: while a step runs, a thread reads the batch of the next one and brings it to the device."""

from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

import torch

from inhouse.train.step import Batch


class _Read(NamedTuple):
    batch: Batch
    copied: torch.cuda.Event | None  # on a GPU: when it is there


class Batches(AbstractContextManager["Batches"]):
    """What gives the batches of a run, by their numbers."""

    @abstractmethod
    def begin(self, number: int) -> None:
        """Batch `number` is likely to be taken next."""

    @abstractmethod
    def take(self, number: int) -> Batch:
        """Batch `number`, on the device."""


class Prefetcher(Batches):
    """`with Prefetcher(batch_of, device) as batches: batch = batches.take(7); batches.begin(8); …`.

    All reading is done by one thread, so the one that trains reads and hashes no file. `batch_of` is a pure function:
    a batch that was begun and is not the next to be taken is dropped. What it raises is raised by `take`.
    """

    def __init__(self, batch_of: Callable[[int], Batch], device: torch.device) -> None:
        self._batch_of, self._device = batch_of, device
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._begun: tuple[int, Future[_Read]] | None = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def begin(self, number: int) -> None:
        """Read batch `number` while the caller goes on."""
        self._begun = number, self._thread.submit(self._read, number)

    def take(self, number: int) -> Batch:
        """Batch `number` on the device; waits where it is not there yet."""
        if self._begun is None or self._begun[0] != number:
            self.begin(number)
        assert self._begun is not None
        future, self._begun = self._begun[1], None
        batch, copied = future.result()
        if copied is not None:
            current = torch.cuda.current_stream()
            current.wait_event(copied)
            for part in batch:
                if part is not None:
                    part.record_stream(current)  # else its memory could be given away while the step still reads it
        return batch

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _read(self, number: int) -> _Read:
        batch = self._batch_of(number)
        if self._stream is None:
            return _Read(batch.to(self._device), None)
        with torch.cuda.stream(self._stream):
            gpu = self._stream.device  # by its number: a thread of its own begins at the first one
            parts = (x if x is None else x.pin_memory().to(gpu, non_blocking=True) for x in batch)
            return _Read(Batch(*parts), self._stream.record_event())  # type: ignore[arg-type]
