"""The ledger as files: every attempt once, money exact."""

import csv
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest
from tests.gateway.spend.conftest import Books

from inhouse.api.wire.pieces import Usage
from inhouse.gateway.spend import export as module
from inhouse.gateway.spend.export import COLUMNS, export


async def _fill(books: Books) -> None:
    for number in range(5):
        await books.call((number, number, number), usage=Usage(10, 4, 5, 1))
    await books.call((12_345_678_901, 0, 20_000_000_000), (0, 0, 0), team="=1+1")


def test_both_kinds_of_file_hold_the_same(
    with_books: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", 3)

    async def work(books: Books) -> None:
        await _fill(books)
        assert await export(books.db, tmp_path / "spend.csv") == 7
        assert await export(books.db, tmp_path / "spend.parquet") == 7

    with_books(work)
    with (tmp_path / "spend.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pyarrow.parquet.read_table(tmp_path / "spend.parquet").to_pylist()
    assert [tuple(row) for row in (rows[0], table[0])] == [COLUMNS, COLUMNS]
    for row, same in zip(rows, table, strict=True):
        assert Decimal(row["cost"]) == same["cost"]
        assert row["at"] == same["at"].isoformat(timespec="milliseconds")
        assert row["prompt"] == ("" if same["prompt"] is None else str(same["prompt"]))
    assert rows[-2]["cost"] == "12.345678901"
    assert (rows[-2]["is_estimate"], rows[-1]["is_estimate"]) == ("1", "0")
    assert (rows[-1]["team"], table[-1]["team"]) == ("'=1+1", "=1+1")  # no spreadsheet reckons with a name


def test_another_ending_is_refused_and_leaves_nothing(with_books: Callable, tmp_path: Path) -> None:
    async def work(books: Books) -> None:
        with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
            await export(books.db, tmp_path / "spend.xlsx")

    with_books(work)
    assert [path.name for path in tmp_path.iterdir() if "spend" in path.name] == []
