"""Pairs of answers."""

import json
from pathlib import Path

import pytest


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sixty questions, each answered with `yes`, which is better, and with `no`."""
    lines = [{"prompt": f"Is {n} it?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(60)]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
