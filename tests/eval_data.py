"""Published evaluation data, which is not part of the repository: tests that need it are skipped where it is not."""

import os
from pathlib import Path

import pytest

_FOLDER = Path(os.environ.get("INHOUSE_EVAL_DATA", Path(__file__).parents[2] / "shared" / "data" / "eval"))


def eval_file(name: str) -> Path:
    """A file such as `gsm8k/test.jsonl.gz`; skips the test where it is not there."""
    if not (_FOLDER / name).is_file():
        pytest.skip(f"{_FOLDER / name} is not here; INHOUSE_EVAL_DATA may name another folder")
    return _FOLDER / name
