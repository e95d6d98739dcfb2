"""What was trained and replaced, or begun with other settings, stays aside until somebody says that it may go."""

from pathlib import Path

from inhouse.resilience.goodput import FILE as GOODPUT

_ASIDE = ".aside"


def was_trained(folder: Path) -> bool:
    """Whether a stage's folder, finished or not, holds what training wrote: by what lies there, whoever asks."""
    return any((folder / name).exists() for name in ("checkpoints", GOODPUT, "metrics.jsonl"))


def set_aside(folder: Path, name: str) -> Path:
    """Move the folder of the stage `name` to `.aside/NAME-N` beside it, and return that place."""
    place = next_place(folder.parent, name)
    place.parent.mkdir(exist_ok=True)
    return folder.rename(place)


def next_place(run: Path, name: str) -> Path:
    """Where the next folder of the stage `name` will lie that is set aside."""
    number = 1 + max((_number(path) for path in kept_aside(run, name)), default=0)
    return run / _ASIDE / f"{name}-{number}"


def kept_aside(run: Path, name: str = "*") -> list[Path]:
    """What lies aside of a stage, or of all, the newest first."""
    return sorted((run / _ASIDE).glob(f"{name}-*"), key=lambda path: (-_number(path), path.name))


def _number(path: Path) -> int:
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
