"""The ledger's attempts as a file: CSV, or parquet with the extra of that name. One row an attempt, oldest first."""

import csv
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from inhouse.gateway.store.database import Database, Row

_ROWS = 10_000  # at a time: a ledger of any length fits
_COUNTS = ("number", "prompt", "cached", "completion", "thinking", "written", "written_1h")
_MONEY = ("cost", "low", "high")
_NANO = Decimal("1e-9")
COLUMNS = (
    "at", "call_id", "number", "key_id", "team", "task", "asked", "face", "provider", "model", "upstream", "kind",
    "outcome", "seconds", "prompt", "cached", "completion", "thinking", "written", "written_1h", "is_estimate", "price",
    "cost", "low", "high",
)  # fmt: skip


async def export(db: Database, path: Path, since: float = 0.0, until: float = 2.0**40) -> int:
    """Write the settled attempts of this time to `path`, whole or not at all; how many rows that were. Money is in
    units of the currency, exact to nine digits. Raises `ValueError` for an ending that is neither .csv nor .parquet,
    and where parquet is asked for without its extra."""
    writers: dict[str, type[_CsvFile] | type[_ParquetFile]] = {".csv": _CsvFile, ".parquet": _ParquetFile}
    if path.suffix not in writers:
        raise ValueError(f"{path}: a ledger is exported as .csv or .parquet")
    part = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with writers[path.suffix](part) as file:
            async for rows in _pages(db, since, until):
                file.write([_plain(row) for row in rows])
                count += len(rows)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


async def _pages(db: Database, since: float, until: float) -> AsyncIterator[list[Row]]:
    """Page by page, each behind the last row of the one before: what is settled meanwhile moves nothing."""
    last: tuple[Any, ...] = (since, "", -1)
    while True:
        rows = await db.read(
            f"SELECT {', '.join(COLUMNS)} FROM spent WHERE at < ? AND (at, call_id, number) > (?, ?, ?) "
            f"ORDER BY at, call_id, number LIMIT {_ROWS}",
            until, *last,
        )  # fmt: skip
        if rows:
            yield rows
        if len(rows) < _ROWS:
            return
        last = (rows[-1]["at"], rows[-1]["call_id"], rows[-1]["number"])


def _plain(row: Row) -> dict[str, Any]:
    values = {name: row[name] for name in COLUMNS}
    values["at"] = datetime.fromtimestamp(row["at"], UTC)
    values["is_estimate"] = row["low"] != row["high"]
    return values | {name: Decimal(row[name]).scaleb(-9).quantize(_NANO) for name in _MONEY}


class _CsvFile:
    """A table as CSV, with a line of names."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.writerows({name: _as_cell(value) for name, value in row.items()} for row in rows)


def _as_cell(value: Any) -> Any:
    """A text that a spreadsheet takes for a formula is none: names come from clients."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, bool):
        return int(value)
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


class _ParquetFile:
    """A table as parquet: times in UTC, money as decimals."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise ValueError("writing parquet needs pyarrow: pip install 'inhouse[parquet]'") from None
        kinds = {name: pyarrow.string() for name in COLUMNS}
        kinds |= {name: pyarrow.int64() for name in _COUNTS} | {name: pyarrow.decimal128(18, 9) for name in _MONEY}
        kinds |= {"at": pyarrow.timestamp("us", "UTC"), "seconds": pyarrow.float64(), "is_estimate": pyarrow.bool_()}
        self._table, self._schema = pyarrow.Table, pyarrow.schema(list(kinds.items()))
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.write_table(self._table.from_pylist(rows, schema=self._schema))
