"""Where a model lies: MODEL on the command line is a run, an exported folder or any folder in Hugging Face layout."""

from pathlib import Path

from inhouse.common.lineage import is_run, stale

# the parts of a run that hold a model, the furthest trained first; `huggingface` for a run's export stage
_PARTS = ("rl", "sft", "midtrain", "pretrain", "huggingface", "export/huggingface")


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
# what a model folder consists of: whatever else lies in it changes nothing
_MODEL_FILES = ("config.json", *TOKENIZER_FILES, "*.safetensors", "*.safetensors.index.json")


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that are the model: shape, weights, tokenizer, template, generation config."""
    return sorted(path for pattern in _MODEL_FILES for path in folder.glob(pattern) if path.is_file())


def find_model(path: Path) -> Path:
    """The model folder that `path` means: itself, or the furthest trained model of a run.

    Raises `ValueError` where there is none.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such folder; give a run (runs/NAME), an exported folder or a Hugging Face folder")
    for folder in (path, *(path / part for part in _PARTS)):
        if (folder / "config.json").is_file():
            return folder
    if (path / "adapter_config.json").is_file():
        raise ValueError(f"{path}: adapters without their base; `inhouse merge {path} FOLDER` makes a model of both")
    raise ValueError(f"{path}: no model here yet (no config.json in it, in rl, in sft or in pretrain)")


def check_output(output: Path, base: Path, ours: str) -> None:
    """Raise `ValueError` where a model made of the one in `base` cannot go into the folder `output` without loss.

    That is where the base lies, a run, or what holds a model of another making: one of ours has `ours` beside it.
    """
    if base.resolve().is_relative_to(output.resolve()):
        raise ValueError(f"{output}: the model that this begins with lies there; give another folder")
    if is_run(output):
        raise ValueError(f"{output}: is a run; give another folder")
    if (output / "config.json").exists() and not (output / ours).exists():
        raise ValueError(f"{output}: there is a model in it already; give another folder")


def find_exported(path: Path) -> Path:
    """The Hugging Face folder that `path` means: itself, or what its run has exported.

    Raises `ValueError` where there is none.
    """
    for folder in (path, path / "huggingface", path / "export" / "huggingface"):
        if (folder / "config.json").is_file():
            return folder
    raise ValueError(f"{path}: nothing is exported here; make the run up to its export, or give a Hugging Face folder")


def find_run(path: Path) -> Path | None:
    """The run that `path` is, or is a stage of; None where it is neither."""
    for folder in (path, *path.resolve().parents[:2]):
        if (folder / "data" / "stage.json").is_file():
            return folder
    return None


def stale_notice(path: Path) -> str | None:
    """A sentence where the model at `path` is of a run that would make another one now; None where it is not."""
    folder, run = find_model(path), find_run(path)
    if run is None or not folder.resolve().is_relative_to(run.resolve()):
        return None
    stage = folder.resolve().relative_to(run.resolve()).parts[0]
    reason = stale(run).get(stage)
    return reason and f"{folder} is stale ({reason}): `inhouse make` brings it up to date"


def model_name(path: Path) -> str:
    """What to call the model at `path`: its run, or its folder."""
    return (find_run(path) or path).resolve().name
