"""A file of lines by steps: what comes again is dropped, what a kill has cut is none."""

from pathlib import Path

from inhouse.rl.loop.step_log import StepLog


def test_later_steps_are_dropped_and_half_lines_too(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "log.jsonl")
    assert log.rows() == []
    log.keep_to(3)
    log.add(1, [{"x": "ä\n"}, {"x": 2}])
    log.add(4, [{"x": 3}])
    with log.path.open("a") as file:
        file.write('{"step": 5, "x"')
    assert [row["step"] for row in log.rows()] == [1, 1, 4]
    log.keep_to(3)
    assert log.rows() == [{"step": 1, "x": "ä\n"}, {"step": 1, "x": 2}]


def test_whatever_a_model_says_is_a_line(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "log.jsonl")
    said = "a\u2028b\u2029c\x85d\x1ee\x0bf\rg\ud800"
    log.add(1, [{"x": said}, {"x": 2}])
    log.keep_to(1)
    assert log.rows() == [{"step": 1, "x": said}, {"step": 1, "x": 2}]
