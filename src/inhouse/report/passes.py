"""How often a run's pretraining passed over its text, by what its stages counted."""

from pathlib import Path
from typing import NamedTuple

from inhouse.data.text_size import counted_tokens
from inhouse.report.charts import read_metrics


class PassesMade(NamedTuple):
    """Tokens of text to train on, and how often pretraining saw each."""

    text_tokens: int
    passes: float


def passes_made(run: Path) -> PassesMade | None:
    """None where the run has no shards or no step of pretraining."""
    text, steps = counted_tokens(run / "tokenizer"), read_metrics(run / "pretrain")
    trained = steps[-1].get("tokens") if steps else None
    return PassesMade(text, trained / text) if text and trained else None
