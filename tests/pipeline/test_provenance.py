"""Code and host as a record tells them."""

import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from inhouse.common import lineage
from inhouse.pipeline import provenance


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another package in inhouse's stead, as a checkout has it."""
    folder = tmp_path / "src" / "inhouse"
    for file, module in (("pipeline/provenance.py", provenance), ("common/lineage.py", lineage)):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text("x = 1\n")
        monkeypatch.setattr(module, "__file__", str(folder / file))
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_tells_its_commit_and_whether_it_is_modified(package: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    facts = provenance.code_facts.__wrapped__()
    assert (facts["commit"], facts["modified"]) == (git(tmp_path, "rev-parse", "HEAD"), False)
    (tmp_path / "notes.md").write_text("no code")
    assert provenance.code_facts.__wrapped__()["modified"] is False
    (package / "pipeline" / "provenance.py").write_text("x = 2\n")
    assert provenance.code_facts.__wrapped__()["modified"] is True


def test_outside_a_checkout_there_is_no_commit(package: Path) -> None:
    facts = provenance.code_facts.__wrapped__()
    assert facts["version"]
    assert "commit" not in facts


def test_the_source_digest_is_of_names_and_content(package: Path) -> None:
    def digest() -> str:
        return lineage.code_digest.__wrapped__()

    first = digest()
    (package / "common" / "lineage.py").write_text("x = 2\n")
    second = digest()
    (package / "common" / "lineage.py").write_text("x = 1\n")
    assert digest() == first
    (package / "common" / "lineage.py").rename(package / "common" / "lineages.py")
    assert len({first, second, digest()}) == 3


def test_the_host_is_told_without_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    facts = provenance.host_facts()
    assert facts["gpus"] == ["GPU 0", "GPU 1"]
    assert (facts["torch"], facts["python"]) == (torch.__version__, platform.python_version())
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 1 << 28
    assert platform.node() not in json.dumps(facts)
