"""The command as a user meets it: in its own process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def inhouse(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inhouse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "text").mkdir()
    for i in range(40):
        (tmp_path / "text" / f"{i}.md").write_text(f"# Page {i}\n" + f"The number {i} follows {i - 1}. " * 20)
    path = tmp_path / "mine.toml"
    path.write_text("[[data.sources]]\npath = 'text'\nname = 'mine'\n[tokenizer]\nvocab_size = 300\n")
    return path


def test_help_names_the_verbs_and_comes_at_once(tmp_path: Path) -> None:
    done = inhouse("--help", folder=tmp_path)
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("make", "chat", "serve", "eval", "trace"))
    code = "import sys, inhouse.cli; assert 'torch' not in sys.modules, 'torch is imported at startup'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_dry_run_prints_every_number_and_writes_nothing(tmp_path: Path) -> None:
    done = inhouse("make", "preview", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("vocab_size", "hidden_size", "active parameters", "64 × depth", "steps × batch_tokens"):
        assert name in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line_on_stderr_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    for arguments in (["make", "nothing"], ["chat", "nothing"], ["trace", "."], ["make", "preview", "--until", "x"],
                      ["make", "preview", "--set", "seed=x"], ["serve", "."]):  # fmt: skip
        done = inhouse(*arguments, folder=tmp_path)
        assert done.returncode == 2, arguments
        assert done.stderr.startswith("inhouse: ")
        assert len(done.stderr.splitlines()) == 1, done.stderr
    done = inhouse("--debug", "make", "nothing", folder=tmp_path)
    assert "Traceback" in done.stderr
    assert inhouse("make", folder=tmp_path).returncode == 2
    assert inhouse("mkae", "preview", folder=tmp_path).returncode == 2


def test_make_until_a_stage_then_again_then_trace(recipe: Path, tmp_path: Path) -> None:
    first = inhouse("make", recipe, "--until", "tokenizer", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    run = tmp_path / "runs" / "mine"
    assert sorted(path.name for path in run.iterdir()) == [".lock", "data", "report.html", "tokenizer"]
    again = inhouse("make", recipe, "--until", "tokenizer", folder=tmp_path)
    assert again.stdout.count("done before") == 2
    traced = inhouse("trace", "runs/mine", "--verify", folder=tmp_path)
    assert traced.returncode == 0
    assert "mine (" in traced.stdout
    assert "verified" in traced.stdout
    (tmp_path / "text" / "0.md").write_text("# Another page\n" + "Other words stand here. " * 20)
    changed = inhouse("make", recipe, "--until", "data", folder=tmp_path)
    assert "data: settings or inputs changed" in changed.stdout
    broken = inhouse("trace", "runs/mine", "--verify", folder=tmp_path)
    assert broken.returncode == 2
    assert "was made from another data" in broken.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_one_sentence(recipe: Path, tmp_path: Path, number: int, status: int) -> None:
    arguments = ["make", recipe, "--set", "model.size=tiny", "--set", "pretrain.tokens=100000000",
                 "--set", "pretrain.compile=false", "--set", "pretrain.batch_tokens=1024",
                 "--set", "pretrain.sequence_length=128"]  # fmt: skip
    command = [sys.executable, "-m", "inhouse", *map(str, arguments)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if line.startswith("pretrain: started"):
                break
        time.sleep(3)
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(30) == status
    assert "Traceback" not in errors
    last = errors.splitlines()[-1]
    assert last.startswith(
        "inhouse: stopped in pretrain; its checkpoints and every finished stage are kept in runs/mine"
    )
    assert (tmp_path / "runs" / "mine" / "tokenizer" / "stage.json").exists()
