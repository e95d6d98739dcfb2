"""A window of steps under torch's profiler: a trace to look at, and which operators took the time."""

import time
from types import TracebackType

import torch
from torch.autograd import DeviceType
from torch.profiler import profile

from inhouse.train.loop import Callback, Trainer
from inhouse.train.settings import check_window, window_of
from inhouse.train.step import Batch, Gradients

FOLDER = "profile"
_SHOWN = 10  # operators


class Profiler(Callback):
    """With `profile = "100:105"`: the steps behind the 100th up to the 105th, those of the first process.

    `profile/` in the stage's folder then holds a Chrome trace and, of a GPU, a memory snapshot (for
    https://docs.pytorch.org/memory_viz). A run that goes on, or goes back, into the window begins it there.
    """

    _profile: profile | None = None
    _has_gpu = False

    def on_start(self, trainer: Trainer) -> None:
        check_window(trainer.settings.profile, trainer.num_steps, trainer.name)
        self._has_gpu = trainer.device.type == "cuda"
        self._window = window = window_of(trainer.settings.profile if trainer.mesh.is_first else None)
        if window and trainer.done >= window.stop:
            trainer.say(f"profile = {trainer.settings.profile} lies behind: {trainer.done:,} steps are done")
        self._begin(trainer)

    def after_step(self, trainer: Trainer, batch: Batch, gradients: Gradients) -> None:
        if trainer.done == self._window.stop and self._profile is not None:
            self._finish(trainer)
        self._begin(trainer)

    def on_rewind(self, trainer: Trainer) -> None:
        self._drop()
        self._begin(trainer)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._drop()

    def _begin(self, trainer: Trainer) -> None:
        if trainer.done not in self._window or self._profile is not None:
            return
        start, self._first = time.perf_counter(), trainer.done
        if self._has_gpu:
            torch.cuda.memory._record_memory_history(max_entries=1_000_000)
        self._profile = profile()
        self._profile.start()
        trainer.paused += time.perf_counter() - start

    def _drop(self) -> None:
        if self._profile is not None:
            self._profile.stop()
            self._profile = None
            if self._has_gpu:
                torch.cuda.memory._record_memory_history(enabled=None)

    def _finish(self, trainer: Trainer) -> None:
        """Write what was recorded, and say what took the longest."""
        assert self._profile is not None
        trainer.supervisor.phase("profile")
        start, recorded = time.perf_counter(), self._profile
        folder, name = trainer.output / FOLDER, f"steps-{self._first}-{trainer.done}"
        folder.mkdir(exist_ok=True)
        if self._has_gpu:
            torch.cuda.memory._dump_snapshot(str(folder / f"{name}.memory.pickle"))
        self._drop()
        recorded.export_chrome_trace(str(folder / f"{name}.trace.json.gz"))
        trainer.say(f"steps {self._first + 1:,} to {trainer.done:,} are in {folder / name}.trace.json.gz")
        for line in _table(recorded, self._has_gpu, trainer.done - self._first):
            trainer.say(line)
        trainer.paused += time.perf_counter() - start


def _table(recorded: profile, has_gpu: bool, num_steps: int) -> list[str]:
    """The operators that took the most time of their own: their share, milliseconds and calls a step."""
    times = {
        event.key: (event.self_device_time_total if has_gpu else event.self_cpu_time_total, event.count)
        for event in recorded.key_averages()
        if event.device_type == DeviceType.CPU  # kernels count with the operators that launched them
    }
    total = sum(micros for micros, _ in times.values()) or 1
    first = sorted(times.items(), key=lambda item: -item[1][0])[:_SHOWN]
    return ["  share   ms/step  calls/step  operator"] + [
        f"{micros / total:7.1%} {micros / 1000 / num_steps:9.3f} {count / num_steps:11.1f}  {key}"
        for key, (micros, count) in first
    ]
