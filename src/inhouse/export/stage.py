"""The export stage: the fine-tuned model as files that others can run, each with the way back to its inputs."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from inhouse.checkpoint.model_folder import copy_tokenizer, read_config
from inhouse.common.files import digests, read_json, write_atomic, write_json
from inhouse.common.lineage import GGUF, RECORD, lineage
from inhouse.common.progress import Progress
from inhouse.evaluate.settings import EvaluateSettings
from inhouse.export.gguf import write_gguf
from inhouse.export.huggingface import write_huggingface
from inhouse.export.loss import measure
from inhouse.export.model_card import model_card
from inhouse.export.quantize import quantize
from inhouse.export.settings import ExportSettings

LINEAGE = "lineage.json"


def export(settings: ExportSettings, measured: EvaluateSettings, model: Path, run: Path, output: Path) -> None:
    """Write `huggingface/`, one `RUN-TYPE.gguf` for each type asked for, and lineage.json with every file's digest.

    `model` is the fine-tuned model's folder, `run` the run that it is of. What each GGUF file holds and loses, read as
    `measured` says, goes into gguf.json. Raises `ValueError` where the model has no chat template or a tokenizer that
    GGUF cannot hold, and where llama.cpp cannot quantize it.
    """
    with Progress("export", 1 + len(settings.gguf), "files") as progress:
        write_huggingface(model, output / "huggingface", settings.weights)
        progress.update()
        files = []
        for file in _gguf_files(settings, model, run.resolve().name, output):
            files.append(file)
            progress.update()
    if files:
        write_json(output / GGUF, measure(files, model, run / "data", measured))
    write_documents(model, run, output)


def _gguf_files(settings: ExportSettings, model: Path, name: str, output: Path) -> Iterator[Path]:
    """Write them one by one. An F32 file that only llama.cpp's quantizer reads is gone afterwards."""
    with TemporaryDirectory(prefix=".f32-", dir=output) as scratch:
        exact = (output if "F32" in settings.gguf else Path(scratch)) / f"{name}-F32.gguf"
        for weights in dict.fromkeys(settings.gguf):
            path = output / f"{name}-{weights}.gguf"
            if weights == "Q6_K" or weights == "Q4_K_M":
                if not exact.exists():
                    write_gguf(model, exact, "F32", name)
                quantize(exact, path, weights)
            elif not path.exists():
                write_gguf(model, path, weights, name)
            yield path


def write_documents(model: Path, run: Path, output: Path) -> None:
    """What stands beside the weights: sampling defaults, model card, lineage. `output` holds the weights already."""
    folder, facts = output / "huggingface", without_places(lineage(run))
    copy_tokenizer(model, folder)
    scores, files = (
        read_json(path) if path.is_file() else {} for path in (run / "evaluate" / "scores.json", output / GGUF)
    )
    card = model_card(facts["run"], read_config(folder), facts, scores, files)
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
