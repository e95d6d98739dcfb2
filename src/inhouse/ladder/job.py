"""One run of a ladder: a recipe at one size with one seed, pretrained and measured by the pipeline's own stages.

Its folder has the stages `pretrain` and `loss`; `data` and `tokenizer` are links to those of the text, made once for
all runs. The folder's name holds a digest of all that its result depends on, so ladders share what they have in common.
`python -m inhouse.ladder.job` reads one from its input.
"""

import json
import os
import signal
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import digest, read_json, write_json
from inhouse.common.lineage import Record, digest_of, read_record, result_digest
from inhouse.ladder.experiments import applied
from inhouse.ladder.rungs import Rung
from inhouse.pipeline.identity import result_settings
from inhouse.pipeline.runner import Stopped, run_stages
from inhouse.pipeline.stages import Stage, partial_folder, stages_of
from inhouse.recipe.recipe import Recipe

LOSS = "loss"
_PACKAGE = Path(__file__).parents[1]
_ROOMS = ("data", "model", "optim", "train")  # whose code a loss depends on
_OF_EXPERIMENTS = ("ladder/all_adamw.py", "ladder/experiments.py")  # and that of one with experiments
_OF_TEXT = ("data", "tokenizer")
_MEASURED = "loss.json"


class Job(NamedTuple):
    """What to train, where. `threads` are those of the process: seconds depend on them."""

    recipe: Recipe
    experiments: tuple[str, ...]
    flops: float
    tokens: int
    threads: int
    text: Path
    run: Path


def text_folder(ladder: Path, recipe: Recipe) -> Path:
    """Where the text of a recipe lies in a ladder's folder, cut into tokens."""
    wanted = [result_settings(recipe.data), result_settings(recipe.tokenizer), [s.path for s in recipe.data.sources]]
    # below `runs`, which no source reads by default
    return ladder / "runs" / f"text-{digest_of(wanted).removeprefix('sha256:')[:12]}"


def new_job(ladder: Path, rung: Rung, experiments: tuple[str, ...], threads: int) -> Job:
    """The job of a rung, whose folder is the same for every ladder that has it."""
    recipe, text = rung.recipe, text_folder(ladder, rung.recipe)
    depends = [
        text.name, recipe.seed, result_settings(recipe.model), result_settings(recipe.pretrain),
        result_settings(recipe.evaluate), recipe.parallel.model_dump(mode="json"), list(experiments), threads,
        _code(_ROOMS + (_OF_EXPERIMENTS if experiments else ())),
    ]  # fmt: skip
    name = f"depth-{rung.config.num_layers}-seed-{recipe.seed}-{digest_of(depends).removeprefix('sha256:')[:12]}"
    return Job(recipe, experiments, rung.flops, rung.tokens, threads, text, ladder / "runs" / name)


@cache
def _code(parts: tuple[str, ...]) -> str:
    return digest_of({path.relative_to(_PACKAGE).as_posix(): digest(path) for path in _code_files(parts)})


def _code_files(parts: tuple[str, ...]) -> list[Path]:
    """Those of rooms and single files: what only reads losses changes no run."""
    found = [_PACKAGE / part for part in parts]
    return [file for path in found for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]


def make_text(job: Job) -> None:
    """Bring the text of a job up to date."""
    recipe = job.recipe
    _bring_up_to_date([each for each in stages_of(recipe, job.text) if each.name in _OF_TEXT], job.text)


def train(job: Job) -> None:
    """Carry a job out, or go on with it; nothing where it is done. Raises as `run_stages` does."""
    job.run.mkdir(parents=True, exist_ok=True)
    for name in _OF_TEXT:
        link = job.run / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(job.text / name, job.run))
    _bring_up_to_date(_stages(job), job.run)


def _bring_up_to_date(stages: list[Stage], folder: Path) -> None:
    """Without asking: on other text than before a run is another one, and what was trained before is set aside."""
    run_stages(stages, folder, _quiet, agrees=lambda question: True)


def is_begun(job: Job) -> bool:
    """Whether anything of a job has been trained, on the text that there is now."""
    return partial_folder(job.run, "pretrain").exists() or _trained(job) is not None


def measured(job: Job) -> dict[str, Any] | None:
    """What the job's `loss` stage measured, or None where it is not done, or was on another text than there is now."""
    trained, loss = _trained(job), read_record(job.run / LOSS)
    is_whole = trained and loss and loss["inputs"]["stages"]["pretrain"] == result_digest(trained)
    return read_json(job.run / LOSS / _MEASURED) if is_whole else None


def _trained(job: Job) -> Record | None:
    record = read_record(job.run / "pretrain")
    return record if record and record["inputs"]["stages"]["tokenizer"] == text_digest(job) else None


def text_digest(job: Job) -> str | None:
    """Of the tokens that a job trains on; None before they are made."""
    record = read_record(job.text / "tokenizer")
    return result_digest(record) if record else None


def _stages(job: Job) -> list[Stage]:
    pretrain = next(stage for stage in stages_of(job.recipe, job.run) if stage.name == "pretrain")

    def write(output: Path) -> None:
        with applied(job.experiments):
            pretrain.write(output)

    tried = {"experiments": list(job.experiments)} if job.experiments else {}
    changed = pretrain._replace(settings=pretrain.settings | tried, write=write)
    evaluated = {"evaluate": job.recipe.evaluate}
    return [changed, Stage(LOSS, evaluated, ("data", "pretrain"), lambda output: _measure(job, output))]


def _measure(job: Job, output: Path) -> None:
    """Held-out bits per byte, by the evaluation of every run, beside what the training took."""
    from inhouse.data.documents import read_documents
    from inhouse.evaluate.bits_per_byte import bits_per_byte
    from inhouse.posttrain.opened_model import open_folder

    settings = job.recipe.evaluate
    model, tokenizer = open_folder(job.run / "pretrain", settings.dtype)[:2]
    texts = [document.text for document in read_documents(job.run / "data", "heldout")]
    score = bits_per_byte(model, tokenizer, texts, settings.context_of(model.config.max_position), settings.stride)
    total, active = model.config.count_parameters()
    told = {"parameters": total, "active": active, "tokens": job.tokens, "flops": job.flops}
    write_json(output / _MEASURED, {**score._asdict(), **told, "seconds": _stepping_seconds(job)})


def _stepping_seconds(job: Job) -> float:
    """What all steps take at their usual pace: without start-up, saves, and what others on the machine cost."""
    from inhouse.resilience.goodput import read_times

    times = read_times(job.run / "pretrain") or {}
    steps = job.tokens // job.recipe.pretrain.batch_tokens
    return times.get("stepping", 0.0) * steps / max(1, steps - 1)  # the first counts as start-up


def _quiet(line: str) -> None:
    pass


def as_line(job: Job) -> str:
    """For another process."""
    fields = job._asdict() | {"recipe": job.recipe.model_dump(mode="json"), "text": str(job.text), "run": str(job.run)}
    return json.dumps(fields)


def main() -> None:
    """Train one job; ends with the process that started it, and saves on SIGTERM."""
    fields = json.loads(sys.stdin.readline())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the ladder, which ends its jobs in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    recipe = Recipe.model_validate_json(json.dumps(fields.pop("recipe")))
    experiments, text, run = tuple(fields.pop("experiments")), Path(fields.pop("text")), Path(fields.pop("run"))
    try:
        train(Job(recipe, experiments, text=text, run=run, **fields))
    except (ValueError, Stopped) as error:
        print(error, file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 2))


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
