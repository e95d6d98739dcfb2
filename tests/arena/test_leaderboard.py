"""From a file or a log to what the command prints and the page shows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.arena.fabricated import drawn
from tests.arena.tamper import KEY, make_log, vote
from tests.page import fetched

from inhouse.arena.leaderboard import Options, category_boards, make_leaderboard, read_votes
from inhouse.arena.render import board_json, lines, page, remarks
from inhouse.arena.vote_log import VoteLog

ROWS = ["left,right,winner,voter,category"] + [
    f"{a},{b},{w},v{i % 3},{'code' if i % 2 else 'chat'}"
    for i, (a, b, w) in enumerate(
        [("big", "small", "left"), ("small", "big", "right"), ("big", "<b>evil</b>", "tie"), ("small", "big", "left"),
         ("<b>evil</b>", "small", "left"), ("small", "<b>evil</b>", "left"), ("big", "last", "left")] * 10
    )
]  # fmt: skip


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    path = tmp_path / "votes.csv"
    path.write_text("\n".join(ROWS))
    return path


def test_lines_say_score_interval_count_and_what_has_none(votes: Path) -> None:
    leaderboard = make_leaderboard(read_votes(votes)[0], Options())
    said = lines(leaderboard)
    assert said[1].split()[:3] == ["1", "big", f"{leaderboard.board.rows[0].score:.1f}"]
    assert said[4].split()[:5] == ["last", "none", "below", "all", "with"]
    assert "70 votes on 4 models, 3 voters" in said
    assert any(line.startswith("top: without ") for line in said)


def test_json_has_these_six_and_is_the_same_bytes_each_time(votes: Path) -> None:
    texts = {board_json(make_leaderboard(read_votes(votes)[0], Options()).board) for _ in range(2)}
    assert len(texts) == 1
    rows = json.loads(texts.pop())
    assert [list(row) for row in rows] == [["model", "score", "low", "high", "rank", "battles"]] * 4
    assert rows[3] == {"model": "last", "score": None, "low": None, "high": None, "rank": None, "battles": 10}


def test_the_page_is_whole_and_escapes_names(votes: Path) -> None:
    battles, _ = read_votes(votes)
    text = page(make_leaderboard(battles, Options()), category_boards(battles, Options()))
    assert fetched(text) == [] and "<script" not in text
    assert "<b>evil</b>" not in text and "&lt;b&gt;evil&lt;/b&gt;" in text
    assert text.count('role="img"') == 3 + 3 + 3 and "<summary>code" in text  # intervals: all, chat, code


def test_a_category_of_its_own(votes: Path) -> None:
    battles, _ = read_votes(votes)
    code = Options(category="code")
    assert make_leaderboard(battles, code).board.votes == 35 and category_boards(battles, code) == {}
    whole = category_boards(battles, Options())
    assert board_json(whole["code"]) == board_json(make_leaderboard(battles, code).board)


def test_a_category_with_too_few_votes_for_style_says_so_on_the_page() -> None:
    votes = drawn([1.0, 0.0, -1.0], 60, seed=0, style=np.array([0.5, 0, 0, 0]))
    few = np.arange(60) < 2
    votes = replace(votes, categories={"few": few}, points_N=np.where(few, [1.0, 0.0] * 30, votes.points_N),
                    left_N=np.where(few, 0, votes.left_N), right_N=np.where(few, 1, votes.right_N))  # fmt: skip
    options = Options(with_style=True)
    boards = category_boards(votes, options)
    assert boards["few"].rows == () and "do not tell the covariates" in boards["few"].notes[0]
    assert "do not tell the covariates" in page(make_leaderboard(votes, options), boards)


def test_a_log_gives_its_board_to_the_byte_with_all_models_that_joined(tmp_path: Path) -> None:
    make_log(tmp_path, votes=30)
    log, head, key = tmp_path / "votes.jsonl", tmp_path / "kept" / "head.json", tmp_path / "key"
    key.write_bytes(KEY)
    VoteLog(log, head, KEY).join(["late"])
    texts = set()
    for _ in range(2):
        battles, notes = read_votes(log, head, key)
        leaderboard = make_leaderboard(battles, Options("people"), notes)
        texts.add(board_json(leaderboard.board) + "\n".join(remarks(leaderboard)))
    assert len(texts) == 1
    assert leaderboard.board.rows[-1][:1] + leaderboard.board.rows[-1][5:] == ("late", 0)
    assert notes[0].startswith("log: 34 entries, as they were written, the last is ")
    assert "NOT CHECKED" in read_votes(log)[1][0]
    with pytest.raises(ValueError, match="checked with both"):
        read_votes(log, head)


def test_a_log_that_was_tampered_with_gives_no_board(tmp_path: Path) -> None:
    make_log(tmp_path, votes=9)
    log, head, key = tmp_path / "votes.jsonl", tmp_path / "kept" / "head.json", tmp_path / "key"
    key.write_bytes(KEY)
    data = log.read_bytes()
    log.write_bytes(data.replace(b'"winner":"left"', b'"winner":"tie"', 1))
    with pytest.raises(ValueError, match=r"not as it was written: entry \d+ was changed \(line \d+\)"):
        read_votes(log, head, key)


def test_a_file_that_is_no_log_has_no_head(votes: Path) -> None:
    with pytest.raises(ValueError, match="no log of votes"):
        read_votes(votes, votes, votes)
    with pytest.raises(ValueError, match="no such file"):
        read_votes(votes.with_name("none.csv"))


def test_a_log_of_models_alone_has_no_board_yet(tmp_path: Path) -> None:
    VoteLog(tmp_path / "v", tmp_path / "h", KEY).join(["a", "b"])
    with pytest.raises(ValueError, match="2 models and no votes yet"):
        read_votes(tmp_path / "v")
    VoteLog(tmp_path / "v", tmp_path / "h", KEY).append([vote("a", "b", "left")])
    assert len(read_votes(tmp_path / "v")[0]) == 1
