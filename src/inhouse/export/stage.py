"""The export stage: the fine-tuned model as files that others can run, each with the way back to its inputs."""

from pathlib import Path

from inhouse.checkpoint.model_folder import read_config
from inhouse.common.files import digests, read_json, write_atomic, write_json
from inhouse.common.lineage import lineage
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
    folder, name = output / "huggingface", run.resolve().name
    facts = lineage(run)
    scores = run / "evaluate" / "scores.json"
    with Progress("export", 1 + len(settings.gguf), "files") as progress:
        write_huggingface(model, folder, settings.weights)
        card = model_card(name, read_config(folder), facts, read_json(scores) if scores.is_file() else {})
        write_atomic(folder / "README.md", card)
        write_json(folder / LINEAGE, facts | {"files": digests(folder)})
        progress.update()
        for weights in settings.gguf:
            write_gguf(model, output / f"{name}-{weights}.gguf", weights, name)
            progress.update()
    write_json(output / LINEAGE, facts | {"files": digests(output)})
