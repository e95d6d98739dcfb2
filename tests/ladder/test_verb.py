"""`inhouse ladder`: a recipe climbs, `show` shows, mistakes are one sentence."""

import sys
from pathlib import Path

import pytest

from inhouse.cli.app import main


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["inhouse", "ladder", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_a_dry_run_prints_the_rungs_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = said(monkeypatch, capsys, "preview", "--try", "cosine", "--rungs", "3", "--dry-run")
    assert code == 0
    assert "1.24 tokens an active parameter, 3 seeds, 18 runs at most; corpora: stdlib" in out
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_sentences(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(monkeypatch, capsys, "preview", "--try", "sgd")
    assert (code, err) == (2, "inhouse: --try sgd: no such experiment; write key=value, or one of adamw, "
                              "random-outputs, cosine, square-root\n")  # fmt: skip


def test_a_project_without_ladders_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = said(monkeypatch, capsys, "show", "--ladder", str(tmp_path))
    assert code == 0
    assert "no ladder has been climbed yet" in out
    assert list(tmp_path.iterdir()) == []
