"""Progress of long work: a bar on a terminal, one plain line every few seconds where there is none."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """`with Progress("pretrain", 4_000, "tokens") as progress: progress.update(512, loss=3.2)`.

    `total` may be None where it is not known. `done` is what an earlier, interrupted process had finished: it counts
    towards the total, not towards the rate. Everything goes to stderr; stdout stays for results. One that is not
    `shown` only counts: of several processes on one task, one shows it.
    """

    def __init__(self, description: str, total: int | None, unit: str, done: int = 0, *, shown: bool = True) -> None:
        self.description, self.total, self.unit, self.shown = description, total, unit, shown
        self.done, self._at_start = done, done
        self.fields: dict[str, object] = {}
        console = Console(stderr=True)
        self._bar = _bar(console) if shown and console.is_terminal else None

    def __enter__(self) -> Self:
        self._start = self._last_line = time.monotonic()
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.done, text="")
        return self

    def update(self, n: int = 1, **fields: object) -> None:
        """`n` more units are done; `fields` (loss=3.2, …) stand beside the count until they are set again."""
        self.done += n
        self.fields.update(fields)
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=self.done, text=self._text(now))
        elif now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._print_line(now)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, text=self._text(now))
            self._bar.stop()
        else:
            self._print_line(now, ending="" if kind else f" in {duration(now - self._start)}")

    def _rate(self, now: float) -> float:
        return (self.done - self._at_start) / max(now - self._start, 1e-9)

    def _text(self, now: float) -> str:
        total = f" of {self.total:,}" if self.total is not None else ""
        parts = [f"{self.done:,}{total} {self.unit}", f"{_short(self._rate(now))} {self.unit}/s"]
        parts += [f"{name} {_short(value)}" for name, value in self.fields.items()]
        return ", ".join(parts)

    def _print_line(self, now: float, ending: str | None = None) -> None:
        if not self.shown:
            return
        percent = f" {100 * self.done / self.total:.0f} %," if self.total else ""
        if ending is None:
            rate = self._rate(now)
            is_known = self.total is not None and rate > 0
            ending = f", {duration((self.total - self.done) / rate)} left" if is_known and self.total else ""
        print(f"{self.description}:{percent} {self._text(now)}{ending}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """8.1 s, 3 min 20 s or 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def short_count(number: float) -> str:
    """12.3 M, 4.56 B: three figures."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:g}"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _bar(console: Console) -> Bar:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    return Bar(*columns, TimeRemainingColumn(compact=True), console=console)
