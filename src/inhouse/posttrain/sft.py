"""The sft stage: conversations of the user's and of our own making, one fine-tuned model folder."""

import math
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from inhouse.checkpoint.model_folder import (
    GENERATION_CONFIG,
    copy_tokenizer,
    fill_from,
    read_config,
    save_model,
    write_generation_config,
)
from inhouse.common.files import read_json, write_atomic, write_json
from inhouse.common.progress import Progress
from inhouse.data.tokenizer import Tokenizer
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.model.transformer import Transformer
from inhouse.parallel.layout import ParallelSettings, check_layout
from inhouse.parallel.process_group import join, rank
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, Encoded, Message, encode_conversation
from inhouse.posttrain.conversations import CONVERSATIONS, PackedConversations, read_conversations
from inhouse.posttrain.opened_model import read_chat_template
from inhouse.posttrain.settings import SamplingDefaults, SftSettings
from inhouse.train.callbacks import default_callbacks
from inhouse.train.loop import Trainer
from inhouse.train.settings import TrainSettings


def fine_tune(
    settings: SftSettings,
    base: Path,
    data: Path,
    output: Path,
    seed: int,
    parallel: ParallelSettings = ParallelSettings(),  # noqa: B008  (frozen)
) -> None:
    """Fine-tune the model in `base` into `output`; `data` is the data stage, whose code the library questions are on.

    With more than one process in `parallel`, each of them must call this; the first writes. Raises ValueError where
    there is no conversation, or one that cannot be read.
    """
    tokenizer, own_template = Tokenizer.load(base), read_chat_template(base)
    template = CHAT_TEMPLATE if own_template is None else own_template
    with torch.device("meta"):
        model = Transformer(read_config(base))
    if settings.sequence_length > model.config.max_position:
        raise ValueError(
            f"[sft] sequence_length = {settings.sequence_length} is more than the base model's context of "
            f"{model.config.max_position} tokens: lower it"
        )
    packed = _pack(settings, tokenizer, template, data, seed)
    check_layout(parallel, model.config, packed.sequences_per_step, settings.sequence_length)
    steps = max(1, math.ceil(settings.epochs * packed.steps_per_epoch))
    output.mkdir(parents=True, exist_ok=True)
    training = TrainSettings(**settings.model_dump(include=set(TrainSettings.model_fields)))
    run_identity = {"seed": seed, "conversations": packed.digest()}
    with join(parallel, settings.device, "sft") as mesh:
        batch_of = partial(packed.batch, rows=mesh.dp_rows(packed.sequences_per_step))
        init_weights = partial(fill_from, folder=base)
        Trainer(
            model, batch_of, steps, training, output, name="sft", run_identity=run_identity,
            callbacks=default_callbacks(), mesh=mesh, init_weights=init_weights,
        ).run()  # fmt: skip
        if mesh.is_first:
            counts = {"conversations": packed.num_conversations, "too_long_left_out": packed.num_too_long}
            write_json(output / CONVERSATIONS, {"generated": settings.generated, **counts, "steps": steps})
            copy_tokenizer(base, output)
            write_atomic(output / "chat_template.jinja", template)
            if own_template is None or not (output / GENERATION_CONFIG).is_file():
                ends = [tokenizer.end_of_turn, tokenizer.end_of_document]
                write_generation_config(output, {"eos_token_id": ends, "pad_token_id": tokenizer.end_of_document})
            write_sampling_defaults(output, settings.sampling)
        save_model(model, output, writes=mesh.is_first)


def gather(settings: SftSettings, data: Path, seed: int) -> Iterator[list[Message]]:
    """Every conversation to train on: the user's files, then the problems of each environment, worked."""
    for path in settings.conversations:
        yield from read_conversations(path)
    for name, environment in ENVIRONMENTS.items():
        for problem in environment.draw("train", settings.generated.get(name, 0), seed, data):
            yield [{"role": "user", "content": problem.prompt}, {"role": "assistant", "content": problem.worked}]


def write_sampling_defaults(folder: Path, sampling: SamplingDefaults) -> None:
    """What transformers and vLLM sample by where nobody says; what the file says of other things stays."""
    known = read_json(folder / GENERATION_CONFIG)
    kept = {key: value for key, value in known.items() if key not in ("do_sample", "temperature", "top_p")}
    sampled = {"temperature": sampling.temperature, "top_p": sampling.top_p} if sampling.temperature > 0 else {}
    write_json(folder / GENERATION_CONFIG, {**kept, "do_sample": bool(sampled), **sampled})


def _pack(settings: SftSettings, tokenizer: Tokenizer, template: str, data: Path, seed: int) -> PackedConversations:
    encoded: list[Encoded] = []
    is_first = rank() == 0
    with Progress("conversations", None, "conversations", shown=is_first) as progress:
        for messages in gather(settings, data, seed):
            encoded.append(encode_conversation(tokenizer, messages, template))
            progress.update()
    if not encoded:
        raise ValueError(
            "no conversations to fine-tune on: give [sft] conversations = [files], or counts in [sft.generated]"
        )
    packed = PackedConversations(encoded, seed, settings.sequence_length, settings.rows(), tokenizer.end_of_document)
    if packed.num_too_long and is_first:
        print(
            f"sft: {packed.num_too_long:,} of {len(encoded):,} conversations are longer than "
            f"sequence_length = {settings.sequence_length} tokens and left out",
            file=sys.stderr,
        )
    return packed
