"""The pretrain and midtrain stages: shards in, a base model's folder out."""

import math
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from inhouse.checkpoint.model_folder import (
    copy_tokenizer,
    fill_from,
    read_config,
    save_model,
    write_generation_config,
)
from inhouse.checkpoint.shape import resolve_shape
from inhouse.common.files import digest
from inhouse.common.model_paths import find_model, model_files
from inhouse.data.loader import MixtureLoader, WindowLoader
from inhouse.data.shards import INDEX
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.config import ModelConfig
from inhouse.model.cross_entropy import NOT_TRAINED
from inhouse.model.sizes import ModelSettings
from inhouse.model.transformer import Transformer
from inhouse.optim.schedule import steps_before_decay
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.layout import ParallelSettings
from inhouse.parallel.process_group import join
from inhouse.train.branch import branch_off
from inhouse.train.callbacks import default_callbacks
from inhouse.train.loop import Trainer
from inhouse.train.run_identity import run_identity
from inhouse.train.settings import MidtrainSettings, PretrainSettings, TextSettings
from inhouse.train.step import Batch
from inhouse.train.step_count import lengthened, plan_steps, trained_shape
from inhouse.train.validation import Validation, heldout_windows


def batches(
    shards: Path,
    settings: TextSettings,
    num_steps: int,
    seed: int,
    mesh: Mesh = SINGLE,
    document_start: int = 0,
    shares: Sequence[int] = (),
) -> Callable[[int], Batch]:
    """This process's sequences of a step, a pure function of it.

    Every phase of `sequence_warmup` has its own order of the text; `num_steps` is what they are fractions of.
    `document_start` is the token that begins a document, for `attention = "document"`; `shares` those of the sources.
    """
    new_loader = partial(MixtureLoader, shares=shares) if any(shares) else WindowLoader
    full, batch = settings.sequence_length, settings.batch_tokens
    phases = [(phase.until * num_steps, min(phase.length, full)) for phase in settings.sequence_warmup]
    loaders = [(end, new_loader(shards, seed, length, batch // length)) for end, length in (*phases, (math.inf, full))]

    def batch_of(step: int) -> Batch:
        loader = next(loader for end, loader in loaders if step < end)
        windows = loader.batch(step, mesh.dp_rows(loader.sequences_per_step))
        return as_batch(windows, settings.attention, document_start)

    return batch_of


def as_batch(windows_BT: np.ndarray, attention: str, document_start: int) -> Batch:
    """Windows of T + 1 ids as a batch of T tokens; in ones that are filled up, `NOT_TRAINED` is no token."""
    ids_BT = torch.from_numpy(windows_BT)
    tokens_BT, targets_BT = ids_BT[:, :-1].clamp_min(0), ids_BT[:, 1:]
    if attention == "causal":
        return Batch(tokens_BT, targets_BT)
    starts_BT = tokens_BT == document_start
    places_BT = torch.arange(tokens_BT.shape[1]).expand_as(tokens_BT)
    first_BT = torch.where(starts_BT, places_BT, 0).cummax(dim=1).values  # of the token's own document
    return Batch(tokens_BT, targets_BT, starts_BT.cumsum(dim=1), places_BT - first_BT)


def pretrain(
    settings: PretrainSettings,
    model: ModelSettings,
    tokenizer: Path,
    output: Path,
    seed: int,
    parallel: ParallelSettings = ParallelSettings(),  # noqa: B008  (frozen)
) -> None:
    """Train a model on `tokenizer/shards/train`, from random weights or those of its base; write its folder, `output`.

    With more than one process in `parallel`, each of them must call this; the first writes. Resumes from
    `output/checkpoints`, or goes on from the run that `output/branch.json` names (see `train.branch`). Raises
    `ValueError` for settings that do not fit together, a corpus smaller than one batch, or a damaged shard or
    checkpoint.
    """
    config, _ = resolve_shape(model, Tokenizer.load(tokenizer).vocab_size)
    base = find_model(model.base) if model.base else None
    _train_on_text(settings, config, base, tokenizer, tokenizer, output, seed, parallel)


def midtrain(
    settings: MidtrainSettings,
    base: Path,
    tokenizer: Path,
    output: Path,
    seed: int,
    parallel: ParallelSettings = ParallelSettings(),  # noqa: B008  (frozen)
    shares: Sequence[int] = (),
) -> None:
    """As `pretrain`, from the weights in the folder `base`, whose context may grow (`step_count.lengthened`).

    `shares`: how much of each source there is in the mixture, in their order; none: all text as it lies.
    """
    config = lengthened(read_config(base), settings)
    _train_on_text(settings, config, base, base, tokenizer, output, seed + 1, parallel, shares)  # another order


def _train_on_text(
    settings: TextSettings,
    config: ModelConfig,
    base: Path | None,
    copied: Path,
    tokenizer: Path,
    output: Path,
    seed: int,
    parallel: ParallelSettings,
    shares: Sequence[int] = (),
) -> None:
    """`tokenizer` has the shards; the tokenizer's files, and what else generation needs, are those in `copied`."""
    vocabulary = Tokenizer.load(tokenizer)
    num_steps, _ = plan_steps(settings, config, parallel)
    config = trained_shape(config, settings)
    shards = tokenizer / "shards" / "train"
    with torch.device("meta"):
        network = Transformer(config)
    # lets the embedding learn fast without outgrowing the blocks (LOG.md); a base's has outgrown nothing
    network.normalizes_embedding = base is None
    # the index holds every shard's digest, and a shard is checked against it when it is first read
    own = {"seed": seed, "data": digest(shards / INDEX)}
    with join(parallel, settings.device, settings.table) as mesh:
        first_steps = branch_off(output, run_identity(num_steps, config, settings, own), settings, mesh)
        if first_steps != num_steps:
            own["first_steps"] = first_steps
        batch_of = batches(shards, settings, first_steps, seed, mesh, vocabulary.end_of_document, shares)
        validation = held_out(tokenizer / "shards" / "heldout", vocabulary, settings, mesh)
        initialize = partial(Transformer.initialize, seed=seed)
        init_weights = partial(fill_from, folder=base) if base else initialize
        Trainer(
            network, batch_of, num_steps, settings, output, name=settings.table, run_identity=own,
            callbacks=[*validation, *default_callbacks()], mesh=mesh, init_weights=init_weights,
            pinned=steps_before_decay(num_steps, settings),
        ).run()  # fmt: skip
        if mesh.is_first:
            copy_tokenizer(copied, output)
            if base is None:  # whose own generation config was copied
                end = vocabulary.end_of_document  # a base model knows documents, and no turns
                write_generation_config(output, {"eos_token_id": [end], "pad_token_id": end})
        save_model(network, output)


def copy_base(base: Path, output: Path) -> None:
    """The pretrain stage of a recipe that only fine-tunes: the model in the folder `base`, byte for byte."""
    output.mkdir(parents=True, exist_ok=True)
    for path in model_files(base):
        shutil.copyfile(path, output / path.name)


def held_out(
    shards: Path, tokenizer: Tokenizer, settings: TextSettings, mesh: Mesh = SINGLE, name: str = "validation"
) -> list[Validation]:
    """The callback that measures the loss on a sample of `shards`; none where there is no text in it."""
    rows = settings.batch_tokens // settings.sequence_length
    windows = heldout_windows(shards, settings.sequence_length, rows)
    if not len(windows):
        return []
    own = mesh.dp_rows(rows)
    parts = [windows[first + own.start : first + own.stop] for first in range(0, len(windows), rows)]
    sample = [as_batch(part, settings.attention, tokenizer.end_of_document) for part in parts]
    text = windows[:, 1:][~np.isin(windows[:, 1:], (NOT_TRAINED, tokenizer.end_of_document))]
    return [Validation(sample, len(tokenizer.decode_bytes(text.tolist())), name)]
