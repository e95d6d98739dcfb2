"""Much earlier work is repeated only where somebody says so; what a change repeats is known before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.fabricated_run import change_record

from inhouse.common.files import read_json
from inhouse.common.lineage import RECORD, stale
from inhouse.pipeline.aside import kept_aside
from inhouse.pipeline.runner import Stopped, run_stages
from inhouse.pipeline.stages import Stage

HOURS = 7200.0


def three_stages(text: str = "text", rate: float = 0.1, kind: str = "loud", called: list[str] | None = None) -> Any:
    """Data, a pretraining of it that takes hours by its record, and a fine-tuning."""

    def writer(name: str, content: str) -> Any:
        def write(output: Path) -> None:
            if called is not None:
                called.append(name)
            (output / "result.txt").write_text(content)

        return write

    return [
        Stage("data", {"text": text}, (), writer("data", text)),
        Stage("pretrain", {"rate": rate}, ("data",), writer("pretrain", f"{text} {rate}"), resumes=True),
        Stage("sft", {"kind": kind}, ("pretrain",), writer("sft", kind), resumes=True),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "mine"
    run_stages(three_stages(), run, say=lambda line: None)
    change_record(run, "pretrain", seconds=HOURS)
    return run


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    ("change", "why", "anew"),
    [
        ({"rate": 0.2}, "pretrain: rate: 0.1 → 0.2; this would make anew pretrain (2 h 00 min), sft", "pretrain"),
        ({"text": "other"}, "data: text: text → other; this would make anew data", "data"),
    ],
)
def test_hours_are_not_repeated_unasked(run: Path, change: dict[str, Any], why: str, anew: str) -> None:
    before, called, asked = contents(run), [], []  # type: ignore[var-annotated]
    stages = three_stages(**change, called=called)
    with pytest.raises(ValueError, match="nothing was changed") as refused:
        run_stages(stages, run, agrees=lambda question: bool(asked.append(question)))
    assert str(refused.value).startswith(why)
    assert str(refused.value).endswith(f"or add --anew {anew}")
    assert asked[0].endswith("Go on?")
    assert (contents(run), called) == (before, [])
    assert run_stages(stages, run, anew=[anew])
    assert "pretrain" in called
    assert [path.name for path in kept_aside(run)] == ["pretrain-1", *(["sft-1"] if "sft" in called else [])]


def test_yes_is_consent_and_what_was_trained_is_kept(run: Path) -> None:
    assert "pretrain" in run_stages(three_stages(rate=0.2), run, agrees=lambda question: True)
    assert (run / ".aside" / "pretrain-1" / "result.txt").read_text() == "text 0.1"


def test_nobody_is_asked_about_minutes_nor_about_what_stays(run: Path) -> None:
    def never(question: str) -> bool:
        raise AssertionError(question)

    assert run_stages(three_stages(kind="quiet"), run, agrees=never) == ["sft"]
    assert run_stages(three_stages(kind="quiet", rate=0.2), run, until="data", agrees=never) == []
    assert list(stale(run)) == ["pretrain", "sft"]  # and it is told


@pytest.mark.parametrize("change", [{"rate": 0.2}, {"text": "other"}])
def test_hours_of_unfinished_work_count_too_also_where_what_they_read_changes(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    run = tmp_path / "mine"
    stages = three_stages()

    def die(output: Path) -> None:
        line = {"attempt": 1, "furthest": 3, "boot": "", "monotonic": 0, "time": 0, "seconds": {"stepping": HOURS}}
        (output / "checkpoint").touch()
        (output / "goodput.jsonl").write_text(json.dumps(line) + "\n")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        run_stages([stages[0], stages[1]._replace(write=die)], run)
    before = contents(run)
    with pytest.raises(ValueError, match="2 h 00 min of work; nothing was changed"):
        run_stages(three_stages(**change), run)
    assert contents(run) == before
    run_stages(three_stages(**change), run, agrees=lambda question: True)
    assert (run / ".aside" / "pretrain-1" / "checkpoint").exists()
    assert run_stages(three_stages(**change), run) == []


def test_the_advice_never_gives_up_a_branch(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer pretraining repeats nothing itself; what is repeated, and asked for, is the fine-tuning on it."""
    change_record(run, "sft", seconds=HOURS)
    monkeypatch.setattr("inhouse.pipeline.plan.branch_from", lambda stage, *_: stage.name == "pretrain" or None)
    with pytest.raises(ValueError, match=r"^pretrain: rate: .*make anew sft \(2 h 00 min\).*--anew sft$"):
        run_stages(three_stages(rate=0.2), run)


def test_what_a_stage_was_forced_to_is_no_branch_and_its_record_says_so(run: Path) -> None:
    assert run_stages(three_stages(), run, anew=["pretrain"]) == ["pretrain"]
    assert read_json(run / "pretrain" / RECORD)["anew"] is True


def test_going_back_repeats_nothing_and_nobody_is_asked(run: Path) -> None:
    """What lies aside is put back, and so is what was made from it."""
    change_record(run, "sft", seconds=HOURS)
    run_stages(three_stages(rate=0.2), run, agrees=lambda question: True)
    for stage in ("pretrain", "sft"):
        change_record(run, stage, seconds=HOURS)  # these are kept as well
    called: list[str] = []
    assert run_stages(three_stages(called=called), run) == ["pretrain", "sft"]
    assert called == []
    assert run_stages(three_stages(), run) == []


def test_work_is_what_all_attempts_took_without_the_nights_between(tmp_path: Path) -> None:
    run = tmp_path / "mine"

    def train(output: Path) -> None:
        lines = [
            {"attempt": number, "furthest": 3, "boot": "", "monotonic": 0, "time": 0, "seconds": seconds}
            for number, seconds in enumerate(({"stepping": 400.0}, {"stepping": 300.0, "idle": 50_000.0}), 1)
        ]
        (output / "goodput.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    stages = three_stages()
    run_stages([stages[0], stages[1]._replace(write=train), stages[2]], run)
    assert read_json(run / "pretrain" / RECORD)["seconds"] == 700.0
    with pytest.raises(ValueError, match=r"this would make anew pretrain \(11 min 40 s\)"):
        run_stages(three_stages(rate=0.2), run)


def test_unfinished_work_that_is_left_where_it_is_repeats_nothing(run: Path) -> None:
    def stop(output: Path) -> None:
        line = {"attempt": 1, "furthest": 3, "boot": "", "monotonic": 0, "time": 0, "seconds": {"stepping": HOURS}}
        (output / "goodput.jsonl").write_text(json.dumps(line) + "\n")
        raise KeyboardInterrupt

    stages = three_stages(rate=0.2)
    with pytest.raises(Stopped):
        run_stages([stages[0], stages[1]._replace(write=stop)], run, agrees=lambda question: True)
    assert run_stages(three_stages(), run) == []  # the old value is back
