"""The contract of stages: whole or absent, done once, made anew when something changed, nothing lost."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from inhouse.common.files import read_json, write_json
from inhouse.common.lineage import check_lineage, lineage, stale
from inhouse.data.settings import Source
from inhouse.pipeline.identity import identify
from inhouse.pipeline.runner import Stopped, make, run_stages
from inhouse.pipeline.stages import Stage, stages_of
from inhouse.recipe.recipe import load_recipe


def write_text(output: Path, text: str) -> None:
    (output / "text.txt").write_text(text)


def two_stages(run: Path, text: str = "some text", scale: int = 2, **data: Any) -> list[Stage]:
    """A data stage that writes `text`, and a tokenizer stage that repeats what it reads."""

    def repeat(output: Path) -> None:
        write_text(output, (run / "data" / "text.txt").read_text() * scale)

    write = data.pop("write", lambda output: write_text(output, text))
    return [
        Stage("data", {"text": text}, (), write, **data),
        Stage("tokenizer", {"scale": scale}, ("data",), repeat),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny"


def test_a_second_run_does_nothing(run: Path) -> None:
    assert run_stages(two_stages(run), run) == ["data", "tokenizer"]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"}
    said: list[str] = []
    assert run_stages(two_stages(run), run, said.append) == []
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != ".lock"} == before
    assert said == ["data: done before, nothing to do", "tokenizer: done before, nothing to do"]


def test_the_record_says_what_went_in_and_what_came_out(run: Path) -> None:
    run_stages(two_stages(run), run)
    record = read_json(run / "tokenizer" / "stage.json")
    assert record["settings"] == {"scale": 2}
    assert list(record["inputs"]["stages"]) == ["data"]
    assert list(record["outputs"]) == ["text.txt"]
    assert record["seconds"] >= 0
    assert record["peak_memory_bytes"] > 1 << 20
    (attempt,) = record["attempts"]
    assert attempt["code"]["version"]
    assert attempt["host"]["torch"]
    assert list(lineage(run)["stages"]) == ["data", "tokenizer"]
    assert check_lineage(run) == []


def test_conversations_are_parsed_before_the_first_stage_and_said(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for number in range(40):
        (tmp_path / "text" / f"{number}.md").write_text(f"Page {number}. " * 50)
    own, path = tmp_path / "own.json", tmp_path / "x.toml"
    own.write_text('[{"instruction": "a", "output": "b"}]')
    path.write_text('[[data.sources]]\nname = "mine"\npath = "text"\n[sft]\nconversations = ["own.json"]\n')
    said: list[str] = []
    run = make(load_recipe(path), tmp_path / "runs", until="data", say=said.append)
    assert said[:2] == ["own.json: 1 conversation, Alpaca", "data: started"]
    assert run is not None
    (run / ".sft.partial").mkdir()
    (stage,) = (stage for stage in stages_of(load_recipe(path), run) if stage.name == "sft")
    identity = identify(stage, run, {})
    write_json(run / ".sft.partial" / "stage.json", {"stage": "sft", **identity._asdict(), "attempts": []})
    said.clear()
    make(load_recipe(path), tmp_path / "runs", until="data", say=said.append)
    assert said == ["data: done before, nothing to do"]
    own.write_text('[{"instruction": "a"}]')
    with pytest.raises(ValueError, match=r"own\.json, record 1: no known layout: it has the key instruction; known"):
        make(load_recipe(path), tmp_path / "other", until="data")
    assert not (tmp_path / "other" / "x" / "data").exists()


def test_a_changed_setting_makes_its_stage_anew_and_what_reads_it(run: Path) -> None:
    run_stages(two_stages(run), run)
    assert run_stages(two_stages(run, scale=3), run) == ["tokenizer"]
    assert (run / "tokenizer" / "text.txt").read_text() == "some text" * 3
    assert run_stages(two_stages(run, text="other", scale=3), run) == ["data", "tokenizer"]
    assert check_lineage(run) == []


def test_a_changed_source_makes_the_stage_anew_a_touched_one_does_not(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "text" / "page.md"
    page.parent.mkdir()
    page.write_text("one")

    def stages() -> list[Stage]:
        return two_stages(run, sources=(Source(name="mine", path=str(page.parent)),))

    run_stages(stages(), run)
    assert list(read_json(run / "data" / "stage.json")["inputs"]) == ["stages", "sources"]
    assert run_stages(stages(), run) == []
    os.utime(page, (1, 1))
    assert run_stages(stages(), run) == []
    page.write_text("two")
    assert run_stages(stages(), run) == ["data"]  # it wrote the same text again, so nothing follows


def test_a_failing_stage_leaves_no_folder_and_keeps_the_old_one(run: Path) -> None:
    run_stages(two_stages(run), run)

    def fail(output: Path) -> None:
        write_text(output, "half")
        raise ValueError("half of it")

    with pytest.raises(ValueError, match="half of it"):
        run_stages(two_stages(run, text="other", write=fail), run)
    assert (run / "data" / "text.txt").read_text() == "some text"
    assert sorted(path.name for path in run.iterdir()) == [".lock", "data", "outdated.json", "tokenizer"]
    assert list(stale(run)) == ["data", "tokenizer"]
    assert run_stages(two_stages(run), run) == []
    assert stale(run) == {}


def test_a_stage_that_resumes_finds_its_folder_again_unless_its_settings_changed(run: Path) -> None:
    found: list[bool] = []

    def long(output: Path) -> None:
        found.append((output / "checkpoint").exists())
        (output / "checkpoint").touch()
        if len(found) in (1, 3):
            raise RuntimeError("killed")

    def stages(setting: int) -> list[Stage]:
        return [Stage("pretrain", {"setting": setting}, (), long, resumes=True)]

    with pytest.raises(RuntimeError):
        run_stages(stages(1), run)
    run_stages(stages(1), run)
    with pytest.raises(RuntimeError):
        run_stages(stages(2), run)  # replaces the finished one
    assert (run / ".pretrain.partial" / "checkpoint").exists()
    said: list[str] = []
    run_stages(stages(3), run, said.append)
    assert found == [False, True, False, False]
    assert any(".aside/pretrain-1" in line for line in said)
    assert (run / ".aside" / "pretrain-1" / "checkpoint").exists()
    assert len(read_json(run / "pretrain" / "stage.json")["attempts"]) == 1
    run_stages(stages(2), run)  # goes on with what lay aside
    assert found[4:] == [True]
    assert run_stages(stages(3), run) == ["pretrain"]  # finished, it takes its place again
    assert len(found) == 5


def test_a_damaged_output_is_named_with_its_remedy(run: Path) -> None:
    run_stages(two_stages(run), run)
    path = run / "data" / "text.txt"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"data/text\.txt: is damaged .*; run again with --anew data"):
        run_stages(two_stages(run), run)
    assert len(check_lineage(run)) == 1


def test_a_folder_of_somebody_else_is_not_overwritten(run: Path) -> None:
    (run / "data").mkdir(parents=True)
    (run / "data" / "mine.txt").touch()
    with pytest.raises(ValueError, match="was not written by inhouse"):
        run_stages(two_stages(run), run)
    assert (run / "data" / "mine.txt").exists()


@pytest.mark.parametrize("renames", [0, 1])
def test_a_replacement_killed_between_its_renames_loses_nothing(run: Path, renames: int) -> None:
    run_stages(two_stages(run), run)
    if renames == 0:
        (run / "data").rename(run / ".data.old")
    else:
        (run / ".data.old").mkdir()
    assert run_stages(two_stages(run), run) == []
    assert not (run / ".data.old").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard.bin"),
        OSError(errno.EROFS, os.strerror(errno.EROFS)),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_cannot_be_written_is_one_sentence(run: Path, error: Exception) -> None:
    def full(output: Path) -> None:
        raise error

    with pytest.raises(ValueError, match=r"data: cannot write in .* \(.*\); finished stages are kept in .*: make room"):
        run_stages(two_stages(run, write=full), run)


def test_an_error_of_the_system_that_is_about_something_else_stays_what_it_is(run: Path) -> None:
    def lost(output: Path) -> None:
        (output / "not there").read_text()

    with pytest.raises(FileNotFoundError):
        run_stages(two_stages(run, write=lost), run)


def test_two_runs_cannot_write_one_folder(run: Path) -> None:
    def second(output: Path) -> None:
        with pytest.raises(ValueError, match=f"another run .process {os.getpid()}"):
            run_stages(two_stages(run), run)

    run_stages(two_stages(run, write=second)[:1], run)


def test_ctrl_c_says_what_is_kept(run: Path) -> None:
    def interrupted(output: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped, match=r"stopped in data; every finished stage is kept in .*tiny") as stopped:
        run_stages(two_stages(run, write=interrupted), run)
    assert stopped.value.exit_status == 130


def test_sigterm_stops_in_order_and_forked_workers_die_of_it_quietly(run: Path) -> None:
    def terminated(output: Path) -> None:
        ready, tell = os.pipe()
        worker = os.fork()
        if worker == 0:
            os.write(tell, b"!")  # Python forgets signals that arrive while it forks
            while True:
                time.sleep(0.01)
        os.read(ready, 1)
        os.kill(worker, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 143
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped:
        run_stages(two_stages(run, write=terminated), run)
    assert stopped.value.exit_status == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_kill_9_leaves_a_run_that_goes_on(run: Path) -> None:
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        from inhouse.pipeline.runner import run_stages
        from inhouse.pipeline.stages import Stage
        run = Path(sys.argv[1])
        def write(output):
            (output / "text.txt").write_text("some text")
        def die(output):
            (output / "text.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        run_stages([Stage("data", {"text": "some text"}, (), write),
                    Stage("tokenizer", {"scale": 2}, ("data",), die)], run)
    """
    assert subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True).returncode == -9
    assert not (run / "tokenizer").exists()
    assert run_stages(two_stages(run), run) == ["tokenizer"]
    assert (run / "tokenizer" / "text.txt").read_text() == "some text" * 2
    assert not (run / ".tokenizer.partial").exists()


def test_what_a_stage_tells_of_its_way_stands_in_its_record(run: Path) -> None:
    told = {"untrained": {"skipped": [3]}, "settings_changed": [{"step": 3}], "branch": {"from": "x", "step": 2}}

    def write(output: Path) -> None:
        for name, content in told.items():
            write_json(output / f"{name}.json", content)

    run_stages(two_stages(run, write=write)[:1], run)
    record = read_json(run / "data" / "stage.json")
    assert {name: record[name] for name in told} == told
