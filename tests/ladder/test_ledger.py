"""The ledger only grows, survives a kill in the middle of a line and an editor, and refuses what is no entry."""

import json
from pathlib import Path

import pytest

from inhouse.ladder.ledger import FILE, append, find, read

PREDICTION = {"kind": "prediction", "ladder": "a", "corpus": "c", "arm": "baseline", "depth": 1, "loss": 2.0}
OUTCOME = PREDICTION | {"kind": "outcome", "foretold": 2.0, "error": 0.0}


def test_entries_come_back_in_order_and_a_line_cut_short_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "ladder"
    assert read(folder) == []
    append(folder, PREDICTION)
    with (folder / FILE).open("a") as file:
        file.write('{"kind": "lad')
    assert read(folder) == [PREDICTION]
    append(folder, OUTCOME)
    assert read(folder) == [PREDICTION, OUTCOME]
    assert find(read(folder), kind="outcome", depth=1) == OUTCOME
    assert find(read(folder), kind="outcome", depth=2) is None


def test_an_entry_whose_end_of_line_an_editor_took_off_is_kept(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(PREDICTION))
    assert read(tmp_path) == [PREDICTION]
    append(tmp_path, OUTCOME)
    assert read(tmp_path) == [PREDICTION, OUTCOME]


@pytest.mark.parametrize(
    "line", ["[1]", "", "{}", '{"kind": "ladder"}', "[" * 100_000, '{"kind": ["ladder"]', "\udcff"]
)
def test_a_line_that_is_no_entry_is_named(line: str, tmp_path: Path) -> None:
    whole = f"{json.dumps(PREDICTION)}\n{line}\n".encode("utf-8", "surrogateescape")
    (tmp_path / FILE).write_bytes(whole)
    with pytest.raises(ValueError, match=r"LEDGER.jsonl, line 2: not an entry"):
        read(tmp_path)
