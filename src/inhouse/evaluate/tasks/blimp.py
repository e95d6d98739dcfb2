"""Minimal pairs in BLiMP's file format (Warstadt et al. 2020): a .jsonl file a phenomenon, below `data`/blimp."""

from pathlib import Path

from inhouse.evaluate.tasks.jsonl import Shape, jsonl_task
from inhouse.evaluate.tasks.records import find_file
from inhouse.evaluate.tasks.task import Task


def blimp_names(data: Path) -> tuple[str, ...]:
    """Of the files that are there."""
    return tuple(f"blimp/{path.name.removesuffix('.jsonl')}" for path in sorted((data / "blimp").glob("*.jsonl")))


def blimp_task(name: str, data: Path, limit: int | None) -> Task:
    """From `data`/blimp/NAME.jsonl; who guesses is right half of the time."""
    file = find_file(data / "blimp", f"{name.removeprefix('blimp/')}.jsonl")
    return jsonl_task(name, file, Shape("minimal_pairs"), limit, chance=0.5)
