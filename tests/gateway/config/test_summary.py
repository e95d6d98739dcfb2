"""What `check` prints of a configuration."""

import json
from pathlib import Path

from inhouse.gateway.config.read import read_config
from inhouse.gateway.config.summary import lines

TEXT = """\
currency = "USD"
default = "big"
[[provider]]
name = "acme"
dialect = "openai"
url = "http://127.0.0.1:9/v1"
[[provider.model]]
name = "big"
upstream = "big-2026"
price = [{ currency = "USD", input = 2.0, output = 8.0 }]
[evidence]
scores = ["scores.jsonl"]
"""
ROW = {"task": "t", "model": "big-2026", "metric": "score", "score": 0.5, "n": 64, "low": 0.4, "high": 0.6}


def test_evidence_that_counts_for_nothing_is_said(tmp_path: Path) -> None:
    rows = [ROW | {"model": "old", "metric": "exact"}, ROW | {"model": "gone"}, ROW]
    (tmp_path / "gateway.toml").write_text(TEXT)
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = list(lines(read_config(tmp_path / "gateway.toml"), 0.0))
    assert "evidence: 1 tasks, 1 models of this gateway" in said
    assert "evidence of models that no provider has: gone" in said
    assert any("old at t is left out: it was scored by exact" in line for line in said)
    assert any("in-house answers within 0.02 of the best" in line for line in said)
