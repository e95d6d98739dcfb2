"""The tasks that come with inhouse, by name; their files lie in a folder that the user names. A new family of them is
a file of its own and a line here."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from inhouse.evaluate.tasks.bbh import NAMES as BBH
from inhouse.evaluate.tasks.bbh import bbh_task
from inhouse.evaluate.tasks.blimp import blimp_names, blimp_task
from inhouse.evaluate.tasks.core import NAMES as CORE
from inhouse.evaluate.tasks.core import core_task
from inhouse.evaluate.tasks.gsm8k import NAMES as GSM8K
from inhouse.evaluate.tasks.gsm8k import gsm8k_task
from inhouse.evaluate.tasks.product import FAMILY as PRODUCT
from inhouse.evaluate.tasks.product import NAMES as PRODUCT_NAMES
from inhouse.evaluate.tasks.product import product_task
from inhouse.evaluate.tasks.prompts import human_eval_task, ifeval_task
from inhouse.evaluate.tasks.task import Task

Ready = Callable[[str, Path, int | None], Task]  # the task's name, the folder, the first items only
_FAMILIES: tuple[tuple[tuple[str, ...], Ready], ...] = (
    (CORE, core_task), (GSM8K, gsm8k_task), (BBH, bbh_task), (("ifeval",), ifeval_task),
    (("humaneval",), human_eval_task), (PRODUCT_NAMES, product_task),
)  # fmt: skip
READY = {name: ready for names, ready in _FAMILIES for name in names}


def is_ready(name: str) -> bool:
    """Whether `name` is, or begins like, a task that comes with inhouse."""
    return name in READY or name.startswith("blimp/")


def needs_file(name: str) -> bool:
    """Whether the task's items are read from the user's folder of files, not made by code."""
    return not name.startswith(PRODUCT)


def ready_names(pattern: str, data: Path) -> tuple[str, ...]:
    """The names that `pattern` means: itself, or with `*` at its end all that begin so.

    Raises ValueError saying which there are, and which one is like it.
    """
    if not pattern.endswith("*"):
        check_name(pattern)
        return (pattern,)
    names = [*READY, *blimp_names(data)]
    if not (found := tuple(name for name in names if name.startswith(pattern[:-1]))):
        where = f" ({data}/blimp holds no .jsonl files)" if pattern.startswith("blimp/") else ""
        raise ValueError(f"no task's name begins with {pattern[:-1]}{where}; there are {', '.join(families())}")
    return found


def check_name(name: str) -> None:
    """Raises ValueError saying which tasks there are, and which one is like it."""
    if is_ready(name):
        return
    near = get_close_matches(name, READY, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f'there is no task "{name}"; {meant}there are {", ".join(families())}, or give it a file')


def families() -> list[str]:
    """How the names begin."""
    return sorted({f"{name.partition('/')[0]}/…" if "/" in name else name for name in (*READY, "blimp/…")})


def ready_task(name: str, data: Path, limit: int | None = None) -> Task:
    """A task that comes with inhouse. Raises ValueError for an unknown name, and where its file is not in `data`."""
    check_name(name)
    return READY.get(name, blimp_task)(name, data, limit)
