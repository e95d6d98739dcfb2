"""A window of steps is written down, whatever happens on the way, and the steps are those of a run without one."""

import gzip
import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.tiny_models import batch_of, before_each_step
from tests.train.test_trainer import NUM_STEPS, losses, same_bits, settings, trained

from inhouse.common.errors import Refusal
from inhouse.train.settings import window_of
from inhouse.train.step import Batch


def traces(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "profile").glob("*"))


def test_the_trace_holds_the_steps_and_the_table_the_costliest_operators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = trained(tmp_path / "with", "glm4_moe", profile="3:5")
    assert same_bits(state, trained(tmp_path / "without", "glm4_moe"))
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    assert traces(tmp_path / "with") == ["steps-3-5.trace.json.gz"]
    with gzip.open(tmp_path / "with" / "profile" / "steps-3-5.trace.json.gz") as file:
        events = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    assert any("_grouped_mm" in name for name in events)
    assert events.count("aten::embedding") == 2  # one forward pass a step
    said = capsys.readouterr().err
    assert "steps 4 to 5 are in " in said
    table = [line.split() for line in said.partition("calls/step  operator\n")[2].splitlines()]
    shares = [float(columns[1].rstrip("%")) for columns in table if columns[1].endswith("%")]
    assert 1 < len(shares) <= 10 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.5


def test_a_run_that_goes_on_inside_the_window_writes_the_rest_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopping(step: int) -> Batch:
        if step == 6:
            raise KeyboardInterrupt
        return batch_of(step)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, source=stopping, profile="3:8")
    assert traces(tmp_path) == []
    trained(tmp_path, profile="3:8")  # from the checkpoint of step 4
    assert traces(tmp_path) == ["steps-4-8.trace.json.gz"]
    trained(tmp_path, profile="3:8")
    assert "profile = 3:8 lies behind: 12 steps are done" in capsys.readouterr().err


def test_a_window_up_to_the_last_step(tmp_path: Path) -> None:
    trained(tmp_path, profile=f"{NUM_STEPS - 1}:{NUM_STEPS}")
    assert traces(tmp_path) == [f"steps-{NUM_STEPS - 1}-{NUM_STEPS}.trace.json.gz"]


@pytest.mark.parametrize("window", ["5:5", "7:3", "7", "a:b", "1:2:3", "-1:4", " 1:2", "", "9:" + "9" * 19])
def test_what_is_no_window_is_refused(window: str) -> None:
    with pytest.raises(ValidationError, match=r"is no window of steps; write it as FIRST:LAST, for example 100:105"):
        settings(profile=window)


def test_a_window_beyond_the_run_is_refused_before_the_first_step(tmp_path: Path) -> None:
    begun: list[int] = []
    with (
        before_each_step(begun.append),
        pytest.raises(Refusal, match=r"\[test\] profile = 10:14 goes .*last step, 12; the last such window is 8:12"),
    ):
        trained(tmp_path, profile="10:14")
    assert begun == []


def test_a_window_is_counted_from_the_steps_that_are_done() -> None:
    assert list(window_of("100:105")) == [100, 101, 102, 103, 104]
    assert not window_of(None)
