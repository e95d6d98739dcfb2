"""Files of evidence as other commands write them, and what is no such file."""

import asyncio
import json
from pathlib import Path

import pytest

from inhouse.gateway.routing.evidence import Evidence
from inhouse.gateway.routing.evidence_files import Votes, keep_fresh, read_evidence
from inhouse.gateway.routing.settings import BoardSettings, EvidenceSettings

ROW = {
    "task": "product/code", "model": "preview", "metric": "score", "score": 0.5, "n": 64, "low": 0.4, "high": 0.6,
    "date": "2026-11-30", "cost": None, "tokens_in": 640, "tokens_out": 6400, "seconds_median": 2.5,
}  # fmt: skip


def lines(file: Path, *rows: object) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_scores_are_read_with_what_answers_took(tmp_path: Path) -> None:
    file = lines(tmp_path / "scores.jsonl", ROW, ROW | {"score": 0.55})
    table = read_evidence(EvidenceSettings(scores=(file,)))
    assert table.quality("product/code", ["preview"], 30)["preview"].mean == 0.55
    assert table.typical("product/code", "preview") == (100.0, 2.5)
    assert table.typical("product/code", "other") == (None, None)


def test_scores_by_another_metric_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [ROW | {"metric": "exact", "model": "old"}, ROW]
    table = read_evidence(EvidenceSettings(scores=(lines(tmp_path / "scores.jsonl", *rows),)))
    assert set(table.models("product/code")) == {"preview"}
    assert "old" in table.notes[0] and "exact" in table.notes[0]


def test_a_board_becomes_points_won_against_an_average_model(tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    row = {"model": "a", "score": 1400.0, "low": 1000.0, "high": 1800.0, "rank": 1, "battles": 50}
    file.write_text(json.dumps([row, row | {"model": "b", "score": None, "low": None, "high": None}]))
    table = read_evidence(EvidenceSettings(board=(BoardSettings(task="product/chat", file=file),)))
    found = table.quality("product/chat", ["a", "b"], 30)
    assert found.keys() == {"a"}
    assert found["a"] == pytest.approx((10 / 11, 0.5, 100 / 101, 50))


def test_votes_count_without_files() -> None:
    table = read_evidence(EvidenceSettings(), [Votes("t", "a", 30, 10), Votes("t", "b", 0, 0)])
    assert table.quality("t", ["a", "b"], 30)["a"].mean == 0.75


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not a line of scores"),
        (json.dumps(ROW | {"score": 1.5}), "line 1: not a line of scores"),
        (json.dumps(ROW) + "\n" + json.dumps(ROW | {"n": 0}), "line 2: not a line of scores"),
    ],
)
def test_what_is_no_file_of_scores_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "scores.jsonl").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_evidence(EvidenceSettings(scores=(tmp_path / "scores.jsonl",)))
    with pytest.raises(ValueError, match="cannot be read"):
        read_evidence(EvidenceSettings(scores=(tmp_path / "none.jsonl",)))


def test_evidence_is_read_again_and_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    file = lines(tmp_path / "scores.jsonl", ROW)
    used: list[Evidence] = []

    async def watch() -> None:
        async def votes() -> list[Votes]:
            return []

        settings = EvidenceSettings(scores=(file,), read_again_seconds=0.001)
        task = asyncio.ensure_future(keep_fresh(settings, votes, used.append))
        while not used:
            await asyncio.sleep(0.001)
        file.write_text("{")
        await asyncio.sleep(0.02)
        lines(file, ROW | {"score": 0.59})
        count = len(used)
        while len(used) < count + 2:
            await asyncio.sleep(0.001)
        task.cancel()

    asyncio.run(watch())
    assert used[-1].quality("product/code", ["preview"], 30)["preview"].mean == 0.59
