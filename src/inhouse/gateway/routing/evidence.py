"""Which model is how good at which task: the scores of evaluations, boards of battles, votes of users, kept apart."""

from collections.abc import Sequence
from typing import NamedTuple

from inhouse.gateway.routing.settings import EvidenceSettings


class Votes(NamedTuple):
    """Of users, on one model's answers to one task."""

    task: str
    model: str
    good: int
    bad: int


class Evidence:
    """The table task x model."""


def read_evidence(settings: EvidenceSettings, votes: Sequence[Votes] = ()) -> Evidence:
    """Raises `ValueError` naming file and line for what is no such file."""
    raise NotImplementedError
