"""Tells which task a request is: TF-IDF of hashed words and letters, multinomial logistic regression. numpy alone."""

from pathlib import Path
from typing import NamedTuple


class Guess(NamedTuple):
    """`task` is the likeliest, however unlikely."""

    task: str
    confidence: float


class TaskClassifier:
    tasks: tuple[str, ...]

    def guess(self, text: str) -> Guess:
        raise NotImplementedError


def open_classifier(folder: Path, labels: Path | None = None) -> TaskClassifier:
    """Trained on the project's own prompts and on the labels, or read from the folder where the same was kept."""
    raise NotImplementedError
