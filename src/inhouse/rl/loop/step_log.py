"""Lines of JSON about a climb's steps, in a file that a resumed climb writes on as if it had never stopped."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inhouse.common.files import write_atomic


class StepLog:
    """Each line has the `step` that it is of."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, Any]]:
        """What stands there; a last line that a kill has cut is none."""
        # by bytes: an answer may hold U+2028 and its like, at which a text is cut into lines too
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def keep_to(self, step: int) -> None:
        """Drop what is of later steps: they come again."""
        if self.path.is_file():
            write_atomic(self.path, "".join(_line(row) for row in self.rows() if row["step"] <= step))

    def add(self, step: int, rows: Iterable[dict[str, Any]]) -> None:
        with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(_line({"step": step, **row}) for row in rows))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
