"""A suite: a list of tasks in TOML.

A task is one that comes with inhouse (`name`, or `family/*`), or a `.jsonl` file of the user's (`name`, `file`), with
the keys of `TaskSettings`. `data` names the folder of the ready tasks' files. No torch.
"""

import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, PositiveInt, ValidationError

from inhouse.common.settings import Settings
from inhouse.evaluate.tasks.jsonl import NAMES, Shape, jsonl_task
from inhouse.evaluate.tasks.ready import needs_file, ready_names, ready_task
from inhouse.evaluate.tasks.task import Kind, Task

READY = Path(__file__).parent / "ready"


class TaskSettings(Settings):
    """One entry of a suite."""

    name: str = Field(min_length=1, description="of a ready task, or what to call the file's")
    file: Path | None = Field(default=None, description="a .jsonl file, plain or gzipped, relative to the suite")
    kind: Kind | None = Field(default=None, description="of the file's task; default: told by its fields")
    fields: dict[str, str] = Field(default={}, description="what fields are called in the file, where they differ")
    delimiter: str = Field(default=" ", description="between a context and what follows it, in the file's task")
    shots: int = Field(default=0, ge=0, description="solved items of the same file before each")
    chance: float | None = Field(default=None, ge=0, lt=1, description="the accuracy of who guesses")
    limit: PositiveInt | None = Field(default=None, description="the first items only")


class SuiteSettings(Settings):
    """A suite's file."""

    data: Path | None = Field(default=None, description="the folder of the ready tasks' files, relative to the suite")
    task: tuple[TaskSettings, ...] = ()


class Suite(NamedTuple):
    """A name, and the tasks with what their entries say."""

    name: str
    tasks: list[Task]
    settings: list[dict[str, Any]]  # of every task, for the results


def ready_suites() -> list[str]:
    return sorted(path.stem for path in READY.glob("*.toml"))


def open_suite(given: str, data: Path | None = None, only: Sequence[str] = (), limit: int | None = None) -> Suite:
    """The suite of a TOML file, a ready one by its name, or of one .jsonl file; `only` these of its tasks.

    `data` and `limit` go before what the suite says. Raises ValueError with a sentence for a suite without tasks, with
    unknown ones or keys, and for files that are not as they must be.
    """
    path = Path(given)
    if path.suffix in (".jsonl", ".gz"):
        entry = TaskSettings(name=path.name.removesuffix(".gz").removesuffix(".jsonl"), file=path.absolute())
        settings, name = SuiteSettings(task=(entry,)), entry.name
    else:
        path = _find(given)
        settings, name = _read(path), path.stem
    folder = data or (path.parent / settings.data if settings.data else None)
    tasks: dict[str, Task] = {}
    described = []
    for entry in settings.task:
        for task in _tasks(entry, path, folder, limit):
            if task.name in tasks:
                raise ValueError(f"{path}: the task {task.name} stands in it twice; give one another name")
            tasks[task.name] = task
            shown = entry.model_dump(exclude_unset=True, exclude={"file"}, mode="json")
            described.append(shown | {"name": task.name, "limit": limit or entry.limit})
    if not tasks:
        raise ValueError(f"{path}: no tasks in it; a suite needs at least one [[task]] with a name")
    _check_only(only, tasks)
    kept = [number for number, name in enumerate(tasks) if not only or name in only]
    return Suite(name, [list(tasks.values())[i] for i in kept], [described[i] for i in kept])


def _find(given: str) -> Path:
    path = Path(given)
    if path.is_file():
        return path
    if path.suffix != ".toml" and (READY / f"{given}.toml").is_file():
        return READY / f"{given}.toml"
    near = get_close_matches(given, ready_suites(), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ValueError(
        f"there is no suite {given}: no such file, and {meant}the ready ones are {', '.join(ready_suites())}"
    )


def _read(path: Path) -> SuiteSettings:
    try:
        settings = SuiteSettings(**tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        detail = error.errors()[0]
        place = ".".join(str(part + 1) if isinstance(part, int) else part for part in detail["loc"])
        raise ValueError(f"{path}: {place}: {detail['msg'].lower()} (given: {detail['input']!r})") from error
    except (ValueError, TypeError) as error:
        if path.suffix != ".toml":
            raise ValueError(f"{path}: a suite is a .toml file, or one task's .jsonl or .jsonl.gz") from error
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    for entry in settings.task:
        if unknown := sorted(entry.fields.keys() - NAMES.keys()):
            raise ValueError(f"{path}: task {entry.name} names a field {unknown[0]}; there are {', '.join(NAMES)}")
    return settings


def _tasks(entry: TaskSettings, suite: Path, data: Path | None, limit: int | None) -> list[Task]:
    if entry.file is not None:
        shape = Shape(entry.kind, entry.fields, entry.delimiter, entry.shots)
        return [jsonl_task(entry.name, suite.parent / entry.file, shape, limit or entry.limit, entry.chance)]
    own = {"kind", "fields", "delimiter", "shots", "chance"} & entry.model_fields_set
    if own:
        raise ValueError(f"{suite}: task {entry.name}: {min(own)} belongs to a task with a file; add file")
    if data is None and needs_file(entry.name):
        raise ValueError(f"{suite}: task {entry.name} needs its file: name the folder of the tasks' files with --data")
    folder = data or Path()
    return [ready_task(name, folder, limit or entry.limit) for name in ready_names(entry.name, folder)]


def _check_only(only: Sequence[str], tasks: dict[str, Task]) -> None:
    for name in only:
        if name not in tasks:
            near = get_close_matches(name, tasks, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"the suite has no task {name}; {meant}it has {', '.join(tasks)}")
