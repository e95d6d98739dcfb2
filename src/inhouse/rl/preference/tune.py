"""Preference tuning from a model folder to another one."""

import math
import shutil
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch

from inhouse.checkpoint.model_folder import copy_tokenizer, fill_from, read_config, save_model
from inhouse.common.files import digest, write_json
from inhouse.common.model_paths import model_files
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import ParallelSettings, check_layout
from inhouse.parallel.process_group import join, rank
from inhouse.posttrain.conversation_files import conversation_files
from inhouse.posttrain.opened_model import read_chat_template
from inhouse.posttrain.rows.encoded import is_written
from inhouse.posttrain.rows.packing import PackedConversations, filled_batch
from inhouse.posttrain.step_count import STEPS_AN_EPOCH
from inhouse.rl.preference.encode import encode_pairs
from inhouse.rl.preference.settings import PreferenceSettings
from inhouse.rl.preference.trainer import HeldoutPairs, PairFigures, PreferenceTrainer
from inhouse.train.callbacks import default_callbacks
from inhouse.train.step_count import trained_shape
from inhouse.train.validation import STEPS

PREFERENCE = "preference.json"  # in a tuned folder: from which base, on which files


def tune_on_pairs(
    settings: PreferenceSettings,
    base: Path,
    pairs: Iterable[Path],
    output: Path,
    seed: int,
    parallel: ParallelSettings = ParallelSettings(),  # noqa: B008  (frozen)
) -> None:
    """Tune the model in the folder `base` on the pairs in files, or folders of them, into the model folder `output`.

    With more than one process in `parallel`, each of them must call this; the first writes. Resumes from
    `output/checkpoints`. Raises ValueError where the base has no chat template, where a file holds no pairs, or where
    settings do not fit together.
    """
    pairs, packed_folder, length = list(pairs), output / "packed", settings.sequence_length
    template, tokenizer = read_chat_template(base), Tokenizer.load(base)
    if template is None:
        raise ValueError(f"{base}: has no chat template: fine-tune it first, it does not know what an answer is")
    with torch.device("meta"):
        model = Transformer(trained_shape(read_config(base), settings))
    if length > model.config.max_position:
        raise ValueError(f"sequence_length = {length} is more than the model's context: {model.config.max_position}")
    check_layout(parallel, model.config, settings.rows(), length, settings.micro_batch_tokens, settings.compile)
    for axis in ("pipeline", "context", "vocabulary"):
        if (value := getattr(parallel, axis)) > 1:
            raise ValueError(f"[parallel] {axis} = {value}: preference tuning shares no pair out; set {axis} = 1")
    if rank() == 0:
        encode_pairs(pairs, tokenizer, template, packed_folder, length)
    while not is_written(packed_folder / "train"):
        time.sleep(0.1)  # where the first process fails, whoever started all of them ends this one too
    packed = PackedConversations(packed_folder / "train", seed, length, tokenizer.end_of_document, together=2)
    packed.sequences_per_step = min(settings.rows(), max(1, packed.num_rows // STEPS_AN_EPOCH))
    steps = max(1, math.ceil(settings.epochs * packed.num_rows / packed.sequences_per_step))
    training = settings.model_copy(update={"batch_tokens": packed.sequences_per_step * length})
    counts = {name: packed.encoded.index[name] for name in ("pairs", "heldout", "too_long", "equal")}
    came_from = {
        "base": {path.name: digest(path) for path in model_files(base)},
        "files": {str(file): digest(file) for path in pairs for file in conversation_files(path)},
    }
    run_identity = {"seed": seed, "base": came_from["base"], "pairs": packed.digest()}
    if rank() == 0:
        print(
            f"preference: {counts['pairs']:,} pairs in {packed.num_rows:,} rows, {counts['heldout']:,} more held out "
            f"({counts['too_long']:,} longer than sequence_length = {length} tokens and {counts['equal']:,} of equal "
            f"answers are left out); {steps:,} steps of {packed.sequences_per_step} rows",
            file=sys.stderr,
        )
    with join(parallel, settings.device, "preference") as mesh:
        dealt = math.ceil(packed.sequences_per_step / parallel.data) * parallel.data  # with filler, if need be
        callbacks = [PairFigures(), *_validation(packed_folder, seed, packed, dealt, mesh), *default_callbacks()]
        PreferenceTrainer(
            model, partial(filled_batch, packed, rows=mesh.dp_rows(dealt)), steps, training, output, name="preference",
            run_identity=run_identity, callbacks=callbacks, mesh=mesh, init_weights=partial(fill_from, folder=base),
            base=base,
        ).run()  # fmt: skip
        if mesh.is_first:
            said = {"settings": settings.model_dump(mode="json"), "seed": seed, "steps": steps, **counts}
            write_json(output / PREFERENCE, said | came_from)
            copy_tokenizer(base, output)
        save_model(model, output)
        if mesh.is_first:
            for index in packed_folder.glob("*/index.json"):
                index.unlink()  # first: a kill half way leaves nothing that looks whole
            shutil.rmtree(packed_folder)


def _validation(folder: Path, seed: int, like: PackedConversations, rows: int, mesh: Mesh) -> list[HeldoutPairs]:
    """The loss on held-out pairs, where there are any; a step's batch in shape."""
    if not is_written(folder / "heldout"):
        return []
    heldout = PackedConversations(folder / "heldout", seed, like.sequence_length, like.filler, together=2)
    heldout.sequences_per_step = rows
    count = min(STEPS, math.ceil(heldout.num_rows / rows))
    return [HeldoutPairs([heldout.batch(step, mesh.dp_rows(rows)) for step in range(count)])]
