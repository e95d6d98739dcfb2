"""The sft stage: conversations of the user's and of our own making beside replayed text, one model folder."""

import math
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import torch

from inhouse.checkpoint.model_folder import (
    GENERATION_CONFIG,
    copy_tokenizer,
    read_config,
    write_generation_config,
)
from inhouse.common.files import digest, read_json, write_atomic, write_json
from inhouse.data.shards import INDEX
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.fp8.needs import check_sides
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import ParallelSettings, check_layout
from inhouse.parallel.process_group import join, rank
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.conversations import CONVERSATIONS, TAUGHT
from inhouse.posttrain.lora.adaptation import Adaptation
from inhouse.posttrain.opened_model import read_chat_template
from inhouse.posttrain.replay import Replay
from inhouse.posttrain.rows.encode import HELDOUT, encode_all, repeats
from inhouse.posttrain.rows.encoded import is_written
from inhouse.posttrain.rows.packing import PackedConversations, filled_batch
from inhouse.posttrain.settings import SamplingDefaults, SftSettings
from inhouse.posttrain.step_count import Rows, count_steps, rows_a_step
from inhouse.train.callbacks import default_callbacks
from inhouse.train.loop import Trainer
from inhouse.train.settings import PretrainSettings, TrainSettings
from inhouse.train.stage import held_out
from inhouse.train.step_count import trained_shape
from inhouse.train.validation import STEPS, Validation

_FEW_STEPS = 50  # below, most answers are not learnt (docs/conversations.md)


def fine_tune(
    settings: SftSettings,
    base: Path,
    data: Path,
    tokenizer: Path,
    output: Path,
    seed: int,
    parallel: ParallelSettings = ParallelSettings(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tune the model in `base` into `output`; `data` is the data stage, whose code the library questions are on.

    `tokenizer` is the stage whose shards are replayed. With more than one process in `parallel`, each of them must call
    this; the first writes. Raises ValueError where there is no conversation, or one that cannot be read.
    """
    loaded, own_template = Tokenizer.load(base), read_chat_template(base)
    template = CHAT_TEMPLATE if own_template is None else own_template
    with torch.device("meta"):
        model = Transformer(trained_shape(read_config(base), settings))
    adaptation = Adaptation(settings.lora, base, seed)
    adaptation.prepare(model, "sft", parallel.pipeline)
    check_layout(
        parallel, model.config, settings.rows(), settings.sequence_length, settings.micro_batch_tokens, settings.compile
    )
    if settings.is_fp8:
        check_sides(model.config, settings.sequence_length // parallel.context, "sft")
    if settings.sequence_length > model.config.max_position:
        raise ValueError(
            f"[sft] sequence_length = {settings.sequence_length} is more than the base model's context of "
            f"{model.config.max_position} tokens: lower it"
        )
    packed_folder = output / "packed"
    if rank() == 0:
        encode_all(settings, base, template, data, packed_folder, seed)
    while not is_written(packed_folder / "train"):
        time.sleep(0.1)  # where the first process fails, whoever started all of them ends this one too
    length, filler = settings.sequence_length, loaded.end_of_document
    packed = PackedConversations(packed_folder / "train", seed, length, filler, repeats(settings, packed_folder))
    rows = rows_a_step(settings, packed.num_rows)
    packed.sequences_per_step = rows.conversations
    shards = tokenizer / "shards"
    mixed = Replay(packed, shards / "train", rows.replayed) if rows.replayed else packed
    steps = count_steps(settings, packed.num_rows, rows)
    training = TrainSettings(
        **settings.model_dump(include=set(TrainSettings.model_fields)) | {"batch_tokens": rows.total * length}
    )
    run_identity = {"seed": seed, "conversations": packed.digest(), "replayed_rows": rows.replayed}
    run_identity |= adaptation.identity()
    if rows.replayed:
        run_identity["text"] = digest(shards / "train" / INDEX)  # which holds every shard's digest
    if rank() == 0:
        _say(packed, rows, steps, settings)
    with join(parallel, settings.device, "sft") as mesh:
        dealt = math.ceil(rows.total / parallel.data) * parallel.data  # few conversations: some processes get filler
        if parallel.pipeline > 1:
            dealt = settings.rows()  # as many micro-batches as a pipeline needs, filler among them
        batch_of = partial(filled_batch, mixed, rows=mesh.dp_rows(dealt))
        validations = _validation(packed_folder, seed, length, filler, dealt, mesh)
        if rows.replayed:  # the step's loss is of both kinds: this one says what of the text is kept
            shape = PretrainSettings(batch_tokens=dealt * length, sequence_length=length, attention="document")
            validations += held_out(shards / "heldout", loaded, shape, mesh, name="text")
        Trainer(
            model, batch_of, steps, training, output, name="sft", run_identity=run_identity,
            callbacks=[*validations, *default_callbacks()], mesh=mesh, init_weights=adaptation.begin,
        ).run()  # fmt: skip
        if mesh.is_first:
            counts = {key: packed.encoded.index[key] for key in ("conversations", "files", "heldout", "too_long")}
            told = {"rows": rows._asdict(), "steps": steps}
            write_json(output / CONVERSATIONS, {"generated": settings.generated, **told, **counts})
            _keep_own(packed_folder, output)
            _write_beside(base, output, settings.sampling)
        adaptation.save(model, output)
        if mesh.is_first:
            for index in packed_folder.glob("*/index.json"):
                index.unlink()  # first: a kill half way leaves nothing that looks whole
            shutil.rmtree(packed_folder)


def _write_beside(base: Path, output: Path, sampling: SamplingDefaults) -> None:
    """What a model folder has beside the weights: the base's own, or ours where it was never taught to chat."""
    template, tokenizer = read_chat_template(base), Tokenizer.load(base)
    copy_tokenizer(base, output)
    write_atomic(output / "chat_template.jinja", CHAT_TEMPLATE if template is None else template)
    if template is None or not (output / GENERATION_CONFIG).is_file():
        ends = [tokenizer.end_of_turn, tokenizer.end_of_document]
        write_generation_config(output, {"eos_token_id": ends, "pad_token_id": tokenizer.end_of_document})
    write_sampling_defaults(output, sampling)


def _keep_own(packed: Path, output: Path) -> None:
    """Own conversations for the evaluate stage to ask: held out, or else some that were taught."""
    for name in (HELDOUT, TAUGHT):
        if (packed / name).is_file():
            shutil.copyfile(packed / name, output / name)


def _say(packed: PackedConversations, rows: Rows, steps: int, settings: SftSettings) -> None:
    """What is trained on, and what somebody would rather know now than after it."""
    say, counts = partial(print, file=sys.stderr, flush=True), packed.encoded.index
    held_out = f", {counts['heldout']:,} more are held out" if counts["heldout"] else ""
    replayed = f" and {rows.replayed} of replayed text" if rows.replayed else ""
    say(
        f"sft: {counts['conversations']:,} conversations in {packed.num_rows:,} rows{held_out}; {steps:,} steps of "
        f"{rows.conversations} rows{replayed}, {settings.epochs:g} passes"
    )
    if settings.replay and not rows.replayed:
        say(
            f"sft: a step is one row, so no text is replayed, and much of the base may be forgotten: set [sft] "
            f"batch_tokens = {2 * settings.sequence_length} or more"
        )
    if too_long := counts["too_long"]:
        total = counts["conversations"] + too_long * (settings.too_long == "leave_out")
        what = {"leave_out": "left out", "truncate": "cut", "split": "split at their turns"}[settings.too_long]
        say(
            f"sft: {too_long:,} of {total:,} conversations are longer than sequence_length = "
            f"{settings.sequence_length} tokens and {what}"
        )
    if steps < _FEW_STEPS:
        enough = math.ceil(_FEW_STEPS * settings.epochs / steps)
        say(
            f"sft: {steps} steps are few, and little of this will be learnt: give more conversations, each in several "
            f"phrasings, or set [sft] epochs = {enough}"
        )


def _validation(folder: Path, seed: int, length: int, filler: int, rows: int, mesh: Mesh) -> list[Validation]:
    """The loss on own conversations that are held out, where there are any; a step's batch in shape."""
    if not is_written(folder / "heldout"):
        return []
    heldout = PackedConversations(folder / "heldout", seed, length, filler)
    heldout.sequences_per_step = rows
    count = min(STEPS, math.ceil(heldout.num_rows / rows))
    return [Validation([heldout.batch(step, mesh.dp_rows(rows)) for step in range(count)])]


def write_sampling_defaults(folder: Path, sampling: SamplingDefaults) -> None:
    """What transformers and vLLM sample by where nobody says; what the file says of other things stays."""
    known = read_json(folder / GENERATION_CONFIG)
    kept = {key: value for key, value in known.items() if key not in ("do_sample", "temperature", "top_p")}
    sampled = {"temperature": sampling.temperature, "top_p": sampling.top_p} if sampling.temperature > 0 else {}
    write_json(folder / GENERATION_CONFIG, {**kept, "do_sample": bool(sampled), **sampled})
