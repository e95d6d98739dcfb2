"""The ledger only grows, survives a kill in the middle of a line, and refuses what is no entry."""

from pathlib import Path

import pytest

from inhouse.ladder.ledger import FILE, append, find, read


def test_entries_come_back_in_order_and_a_line_cut_short_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "ladder"
    assert read(folder) == []
    append(folder, {"kind": "prediction", "depth": 1})
    with (folder / FILE).open("a") as file:
        file.write('{"kind": "lad')
    assert read(folder) == [{"kind": "prediction", "depth": 1}]
    append(folder, {"kind": "outcome", "depth": 1})
    assert [entry["kind"] for entry in read(folder)] == ["prediction", "outcome"]
    assert find(read(folder), kind="outcome", depth=1) == {"kind": "outcome", "depth": 1}
    assert find(read(folder), kind="outcome", depth=2) is None


def test_a_line_that_is_no_entry_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"kind": "ladder"}\n[1]\n')
    with pytest.raises(ValueError, match=r"LEDGER.jsonl, line 2: not an entry"):
        read(tmp_path)
