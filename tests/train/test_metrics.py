"""What is said elsewhere is what stands in metrics.jsonl, and a run that goes on is the same run there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tiny_models import batch_of
from tests.train.test_trainer import metrics, same_bits, trained

from inhouse.common.errors import Refusal
from inhouse.train.step import Batch

STAND_IN = '''
"""Notes what a run at Weights & Biases is given."""
import json, os

def note(**fields):
    with open(os.environ["STAND_IN"], "a") as file:
        file.write(json.dumps(fields) + "\\n")

class Settings(dict):
    def __init__(self, **fields): super().__init__(fields)

class Run:
    def define_metric(self, name, step_metric): note(metric=name, by=step_metric)
    def log(self, entry): note(entry=entry)
    def finish(self, exit_code): note(exit_code=exit_code)

def init(**fields):
    if os.environ.get("STAND_IN_FAILS"): raise RuntimeError("api_key not configured\\nand more")
    note(init={name: str(value) if name == "dir" else value for name, value in fields.items()})
    return Run()
'''


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of what a stand-in for the package was told."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("STAND_IN", str(tmp_path / "noted"))
    yield tmp_path / "noted"
    sys.modules.pop("wandb", None)


def told(noted: Path, key: str) -> list[Any]:
    lines = map(json.loads, noted.read_text().splitlines())
    return [line[key] for line in lines if key in line]


def test_a_run_and_its_restart_are_one_run_there_with_the_same_entries(tmp_path: Path, noted: Path) -> None:
    def stopping(step: int) -> Batch:
        if step == 6:
            raise KeyboardInterrupt
        return batch_of(step)

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", "glm4_moe", stopping, wandb="ours")
    first = told(noted, "entry")
    assert [entry["step"] for entry in first] == [1, 2, 3, 4, 5, 6]
    state = trained(tmp_path / "run", "glm4_moe", wandb="ours")
    begun, again = told(noted, "init")
    assert begun["id"] == again["id"] and begun["project"] == "ours" and begun["resume"] == again["resume"] == "allow"
    assert begun["config"]["train"]["matrix_lr"] and begun["dir"] == str(tmp_path / "run")
    assert told(noted, "exit_code") == [1, 0] and told(noted, "by") == ["step", "step"]
    entries = {entry["step"]: entry for entry in told(noted, "entry")}  # steps that were trained again: as they are now
    for line in metrics(tmp_path / "run"):
        entry = entries.pop(line["step"])
        assert entry["loss"] == line["loss"] and entry["tokens_per_second"] == line["tokens_per_second"]
        assert entry["expert_load_max/0"] == line["expert_load_max"][0] and "mfu" not in entry
    assert entries == {}
    assert same_bits(state, trained(tmp_path / "without", "glm4_moe"))


def test_secrets_are_told_to_nobody(
    tmp_path: Path, noted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "f00dcafe" * 5)
    trained(tmp_path / "run", wandb="ours")
    assert "f00dcafe" not in noted.read_text() + capsys.readouterr().err
    files = (path for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert not any(b"f00dcafe" in path.read_bytes() for path in files)


def test_off_unless_set(tmp_path: Path, noted: Path) -> None:
    trained(tmp_path / "run")
    assert not noted.exists() and not (tmp_path / "run" / "wandb").exists()


def test_where_no_run_can_be_begun_one_sentence_says_why(
    tmp_path: Path, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    with pytest.raises(Refusal, match=r"^wandb = ours: .*RuntimeError: api_key not configured\); log in .*=offline$"):
        trained(tmp_path / "run", wandb="ours")


def test_without_the_package_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inhouse.train.watching.wandb_run.find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"wandb = ours needs .* pip install 'inhouse\[wandb\]'"):
        trained(tmp_path / "run", wandb="ours")


OFFLINE = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.train.test_trainer import trained
torch.set_num_threads(1)
trained(Path(sys.argv[1]), wandb="ours")
"""


def test_the_package_itself_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    environment = os.environ | {"WANDB_MODE": "offline"}
    command = [sys.executable, "-c", OFFLINE, str(tmp_path / "run"), str(Path(__file__).parents[2])]
    subprocess.run(command, check=True, env=environment, timeout=600)
    (written,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert written.stat().st_size > 0 and (tmp_path / "run" / "wandb" / "id.txt").read_text() in written.name
