"""The CORE tasks (DataComp-LM, Li et al. 2024, appendix G): how each of their files is asked, and what guessing scores.

Examples before an item, delimiters and baselines are those of DCLM's own configuration and of eval_meta_data.csv; what
that leaves open is as in llm-foundry, which it runs: white space around texts falls away, examples end with one new
line, the choice is the one likeliest by its tokens, and a continuation is right where each of its tokens is the
likeliest. Which examples are drawn is our own.
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from inhouse.evaluate.tasks.jsonl import Shape, jsonl_task
from inhouse.evaluate.tasks.records import find_file
from inhouse.evaluate.tasks.task import Task


class _Core(NamedTuple):
    folder: str
    shots: int
    chance: float
    delimiter: str = " "
    file: str = ""  # where it is not the task's name


_ANSWER = "\nAnswer: "
_TASKS = {
    "arc_challenge": _Core("world_knowledge", 10, 0.25, _ANSWER),
    "arc_easy": _Core("world_knowledge", 10, 0.25, _ANSWER),
    "bigbench_qa_wikidata": _Core("world_knowledge", 10, 0.0),
    "commonsense_qa": _Core("commonsense_reasoning", 10, 0.403),
    "copa": _Core("commonsense_reasoning", 0, 0.5),
    "openbook_qa": _Core("commonsense_reasoning", 0, 0.25),
    "piqa": _Core("commonsense_reasoning", 10, 0.5, _ANSWER),
    "bigbench_language_identification": _Core("language_understanding", 10, 0.25),
    "winograd": _Core("language_understanding", 0, 0.5, file="winograd_wsc"),
    "winogrande": _Core("language_understanding", 0, 0.5),
    "boolq": _Core("reading_comprehension", 10, 0.62, _ANSWER),
    "agi_eval_lsat_ar": _Core("symbolic_problem_solving", 3, 0.25),
    "bigbench_cs_algorithms": _Core("symbolic_problem_solving", 10, 0.0),
    "bigbench_dyck_languages": _Core("symbolic_problem_solving", 10, 0.0),
    "bigbench_operators": _Core("symbolic_problem_solving", 10, 0.0),
    "bigbench_repeat_copy_logic": _Core("symbolic_problem_solving", 10, 0.0),
    "simple_arithmetic_nospaces": _Core("symbolic_problem_solving", 10, 0.0),
    "simple_arithmetic_withspaces": _Core("symbolic_problem_solving", 10, 0.0),
}
NAMES = tuple(f"core/{name}" for name in _TASKS)


def core_task(name: str, data: Path, limit: int | None) -> Task:
    """One of `NAMES`, from the files below `data`/core."""
    core = _TASKS[name.removeprefix("core/")]
    file = f"{core.file or name.removeprefix('core/')}.jsonl"
    shape = Shape(delimiter=core.delimiter, shots=core.shots, between="\n", strips=True)
    task = jsonl_task(name, find_file(data / "core" / core.folder, file), shape, limit, core.chance)
    return replace(task, centred_metric="greedy" if task.kind == "log_likelihood" else "accuracy_per_token")
