"""A model folder on a suite: answers, scores, and both written down."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from inhouse.common.files import digest
from inhouse.common.lineage import digest_of
from inhouse.common.model_paths import find_model, model_files, model_name
from inhouse.evaluate.results import Answer, ResultsWriter
from inhouse.evaluate.score import Score
from inhouse.evaluate.suite.overlap import overlaps, training_shards
from inhouse.evaluate.suite.runner import Runner
from inhouse.evaluate.suite.suite import Suite
from inhouse.evaluate.suite.summary import OVERLAP, TOUCHED, summarise
from inhouse.posttrain.opened_model import open_folder, resolve_dtype


def evaluate_suite(
    path: Path, suite: Suite, folder: Path, dtype: str = "fp32", with_overlap: bool = False
) -> dict[str, Score]:
    """Ask the model at `path` every item of the suite; the results go to `folder`, where an earlier try goes on.

    `with_overlap`: look for the items in the text that the model was trained on. Raises ValueError with a sentence for
    tasks that are not as they must be, before the model is opened.
    """
    model = find_model(path)
    dtype = resolve_dtype(model, dtype)
    items = {task.name: list(task.items()) for task in suite.tasks}
    trained = training_shards(path) if with_overlap else []
    about = {
        "model": model_name(path), "kind": "folder", "digest": _digest(model),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "suite": suite.name, "settings": {"dtype": dtype},
        "tasks": suite.settings, "inhouse": version("inhouse"),
    }  # fmt: skip
    with ResultsWriter(folder, about) as writer:
        runner = Runner(open_folder(model, dtype))
        answers = [answer for task in suite.tasks for answer in runner.answer(task, items[task.name], writer)]
        if trained:
            documents = [item.document for task in suite.tasks for item in items[task.name]]
            answers = _marked(answers, [found.share for found in overlaps(documents, trained)])
        scores = summarise(answers)
        writer.finish(answers, scores)
    return scores


def _marked(answers: Sequence[Answer], shares: Sequence[float | None]) -> list[Answer]:
    """Each answer with how far the training text overlaps with its item, where that can be told."""
    marks = [{} if share is None else {OVERLAP: share, TOUCHED: float(share > 0)} for share in shares]
    return [answer._replace(metrics=answer.metrics | mark) for answer, mark in zip(answers, marks, strict=True)]


def _digest(model: Path) -> str:
    return digest_of({path.name: digest(path) for path in model_files(model)})
