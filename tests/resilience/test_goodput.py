"""Every second is booked once: the times sum to the wall-clock, whatever happened."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.resilience import goodput
from inhouse.resilience.goodput import FILE, KINDS, Goodput, describe, read_times


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def run(self, ledger: Goodput, step: int, seconds: float, data: float = 0.0) -> None:
        with ledger.waiting("data wait"):
            self.now += data
        self.now += seconds
        ledger.step_done(step)


def times(folder: Path) -> dict[str, float]:
    found = read_times(folder)
    assert found is not None
    return found


def test_each_kind_is_booked(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Goodput(tmp_path, clock)
    clock.run(ledger, 0, 30.0)  # start-up: it compiles
    for step in range(1, 11):
        clock.run(ledger, step, 2.0, data=0.5)
    clock.run(ledger, 11, 7.0)
    with ledger.waiting("checkpoint stall"):
        clock.now += 3.0
    with ledger.waiting("validation"):
        clock.now += 4.0
    clock.now += 1.0
    ledger.close()  # one second into a step that never ended
    clock.now += 20.0
    ledger = Goodput(tmp_path, clock)
    clock.run(ledger, 10, 5.0)  # start-up
    clock.run(ledger, 11, 2.0)  # again
    clock.run(ledger, 12, 2.0)
    ledger.close()
    expected = {"stepping": 24.0, "slow": 5.0, "start-up": 35.0, "data wait": 5.0, "checkpoint stall": 3.0}
    assert times(tmp_path) == pytest.approx(expected | {"validation": 4.0, "recomputed": 3.0, "idle": 20.0})
    assert sum(times(tmp_path).values()) == pytest.approx(clock.now - 1000.0)
    assert describe(times(tmp_path)).startswith("24.2 % of 1 min 39 s: stepping 24.2 %")


DO = st.lists(st.tuples(st.sampled_from(["step", "save", "kill", "back"]), st.floats(0.001, 50)), max_size=60)


@given(DO)
def test_the_split_sums_to_the_wall_clock(tmp_path_factory: pytest.TempPathFactory, events: list) -> None:
    folder, clock, step = tmp_path_factory.mktemp("run"), Clock(), 0
    ledger = Goodput(folder, clock)
    for what, seconds in events:
        if what == "step":
            clock.run(ledger, step, seconds, data=seconds / 7)
            step += 1
        elif what == "save":
            with ledger.waiting("checkpoint stall"):
                clock.now += seconds
        elif what == "kill":  # nothing is written any more
            clock.now += seconds
            ledger = Goodput(folder, clock)
            step = max(0, step - 3)
        else:
            step = max(0, step - 2)
    ledger.close()
    assert sum(times(folder).values()) == pytest.approx(clock.now - 1000.0)
    assert all(seconds >= 0 for seconds in times(folder).values())


def test_steps_after_a_rewind_are_recomputed(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Goodput(tmp_path, clock)
    for step in (0, 1, 2, 3, 2, 3, 4):
        clock.run(ledger, step, 1.0)
    ledger.close()
    assert (times(tmp_path)["recomputed"], times(tmp_path)["stepping"]) == (2.0, 4.0)


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path) -> None:
    clock = Clock()
    Goodput(tmp_path, clock).close()
    with (tmp_path / FILE).open("a") as file:
        file.write('{"attempt": 1, "furth')
    clock.now += 4.0
    Goodput(tmp_path, clock).close()
    assert times(tmp_path)["idle"] == 4.0


def test_the_calendar_matters_only_across_a_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goodput.time, "time", lambda: 5000.0)
    Goodput(tmp_path, Clock(100.0)).close()
    monkeypatch.setattr(goodput.time, "time", lambda: 10.0)  # it jumped back
    Goodput(tmp_path, Clock(103.0)).close()
    assert times(tmp_path)["idle"] == 3.0
    monkeypatch.setattr(goodput, "_boot", lambda: "another")
    monkeypatch.setattr(goodput.time, "time", lambda: 70.0)
    Goodput(tmp_path, Clock(1.0)).close()
    assert times(tmp_path)["idle"] == 63.0


def test_the_ledger_grows_ever_more_slowly(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Goodput(tmp_path, clock)
    for step in range(100_000):
        clock.run(ledger, step, 1.0)
    ledger.close()
    lines = (tmp_path / FILE).read_text().splitlines()
    assert len(lines) < 6000
    assert set(json.loads(lines[-1])["seconds"]) == set(KINDS)


def test_no_ledger_no_split(tmp_path: Path) -> None:
    assert read_times(tmp_path) is None
