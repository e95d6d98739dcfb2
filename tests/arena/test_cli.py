"""The verbs as a user meets them: what they print, where, and how they end."""

import json
import sys
from pathlib import Path

import pytest
from tests.arena.tamper import KEY, make_log

from inhouse.cli.app import main

VOTES = "left,right,winner,voter_kind\na,b,left,people\nb,a,left,people\na,b,left,people\n"


def inhouse(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["inhouse", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_a_board_is_printed_as_lines_as_json_and_as_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    votes = tmp_path / "votes.csv"
    votes.write_text(VOTES)
    assert inhouse(monkeypatch, "arena", "board", "--votes", votes, "--html", tmp_path / "board.html") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["1", "a", "1060.2"]
    assert "<svg" in (tmp_path / "board.html").read_text()
    assert inhouse(monkeypatch, "arena", "board", "--votes", votes, "--json", "--voter", "people", "--reweight") == 0
    said = capsys.readouterr()
    assert [row["model"] for row in json.loads(said.out)] == ["a", "b"] and "top: " in said.err


def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    votes, page = tmp_path / "votes.csv", tmp_path / "board.html"
    votes.write_text(VOTES + "b,a,left,judges\n")
    for more, said in (((), "2 kinds of voters"), (("--voter", "judge"), "people or judges"),
                       (("--voter", "people", "--style"), "style control wants the answers"),
                       (("--voter", "people", "--category", "x"), "no vote is in the category 'x'")):  # fmt: skip
        assert inhouse(monkeypatch, "arena", "board", "--votes", votes, "--html", page, *more) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert not page.exists()


def test_a_tampered_log_ends_with_what_was_done_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_log(tmp_path, votes=5)
    (tmp_path / "key").write_bytes(KEY)
    path, head = tmp_path / "votes.jsonl", tmp_path / "kept" / "head.json"
    given = ("arena", "board", "--votes", path, "--head", head, "--key", tmp_path / "key")
    assert inhouse(monkeypatch, *given) == 0
    assert "log: 8 entries, as they were written" in capsys.readouterr().out
    path.write_bytes(b"".join(line + b"\n" for line in [*log.lines[:5], *log.lines[6:]]))
    assert inhouse(monkeypatch, *given) == 2
    assert "entry 6 is missing" in capsys.readouterr().err


def test_a_plan_whose_endpoints_cannot_be_asked_begins_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_bytes(KEY)
    models = "".join(f'[[models]]\nname = "{name}"\nurl = "ftp://{name}"\n' for name in "ab")
    (tmp_path / "plan.toml").write_text(
        f'battles = 2\nvotes = "{tmp_path}/v"\nhead = "{tmp_path}/h"\nkey = "{tmp_path}/key"\n'
        f'environment = "addition"\n{models}'
    )
    assert inhouse(monkeypatch, "arena", "battle", tmp_path / "plan.toml") == 2
    assert "is no address of an endpoint" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()
