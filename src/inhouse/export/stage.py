"""The export stage: the fine-tuned model as files that others can run, each with the way back to its inputs."""

from pathlib import Path
from typing import Any

from inhouse.checkpoint.model_folder import copy_tokenizer, read_config
from inhouse.common.files import digests, read_json, write_atomic, write_json
from inhouse.common.lineage import RECORD, lineage
from inhouse.common.progress import Progress
from inhouse.export.gguf import write_gguf
from inhouse.export.huggingface import write_huggingface
from inhouse.export.model_card import model_card
from inhouse.export.settings import ExportSettings

LINEAGE = "lineage.json"


def export(settings: ExportSettings, model: Path, run: Path, output: Path) -> None:
    """Write `huggingface/`, one `RUN-TYPE.gguf` for each type asked for, and lineage.json with every file's digest.

    `model` is the fine-tuned model's folder, `run` the run that it is of. Raises `ValueError` where the model has no
    chat template or a tokenizer that GGUF cannot hold.
    """
    with Progress("export", 1 + len(settings.gguf), "files") as progress:
        write_huggingface(model, output / "huggingface", settings.weights)
        progress.update()
        for weights in settings.gguf:
            write_gguf(model, output / f"{run.resolve().name}-{weights}.gguf", weights, run.resolve().name)
            progress.update()
    write_documents(model, run, output)


def write_documents(model: Path, run: Path, output: Path) -> None:
    """What stands beside the weights: sampling defaults, model card, lineage. `output` holds the weights already."""
    folder, facts, scores = output / "huggingface", without_places(lineage(run)), run / "evaluate" / "scores.json"
    copy_tokenizer(model, folder)
    card = model_card(facts["run"], read_config(folder), facts, read_json(scores) if scores.is_file() else {})
    write_atomic(folder / "README.md", card)
    for place in (folder, output):
        files = {name: value for name, value in digests(place).items() if Path(name).name not in (RECORD, LINEAGE)}
        write_json(place / LINEAGE, facts | {"files": files})


def without_places(facts: Any) -> Any:
    """The same facts, of every absolute path only its last part: where text lay at home is nobody's business."""
    if isinstance(facts, dict):
        return {key: without_places(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [without_places(value) for value in facts]
    return Path(facts).name if isinstance(facts, str) and Path(facts).is_absolute() else facts
