"""The pretrain stage: shards in, a base model's folder out."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from inhouse.checkpoint.model_folder import copy_tokenizer, save_model, write_generation_config
from inhouse.common.files import digest
from inhouse.data.loader import WindowLoader
from inhouse.data.shards import INDEX
from inhouse.data.tokenizer import Tokenizer
from inhouse.model.sizes import ModelSettings
from inhouse.model.transformer import Transformer
from inhouse.parallel.device_mesh import SINGLE, Mesh
from inhouse.parallel.layout import ParallelSettings
from inhouse.parallel.process_group import join
from inhouse.train.callbacks import default_callbacks
from inhouse.train.loop import Trainer
from inhouse.train.settings import PretrainSettings
from inhouse.train.step import Batch
from inhouse.train.step_count import plan_steps


def batches(
    shards: Path, settings: PretrainSettings, num_steps: int, seed: int, mesh: Mesh = SINGLE
) -> Callable[[int], Batch]:
    """This process's sequences of a step, a pure function of it.

    Every phase of `sequence_warmup` has its own order of the text.
    """
    full, batch = settings.sequence_length, settings.batch_tokens
    phases = [(phase.until * num_steps, min(phase.length, full)) for phase in settings.sequence_warmup]
    loaders = [
        (end, WindowLoader(shards, seed, length, batch // length)) for end, length in (*phases, (math.inf, full))
    ]

    def batch_of(step: int) -> Batch:
        loader = next(loader for end, loader in loaders if step < end)
        window = torch.from_numpy(loader.batch(step, mesh.dp_rows(loader.sequences_per_step)))
        return Batch(window[:, :-1], window[:, 1:])

    return batch_of


def pretrain(
    settings: PretrainSettings,
    model: ModelSettings,
    tokenizer: Path,
    output: Path,
    seed: int,
    parallel: ParallelSettings = ParallelSettings(),  # noqa: B008  (frozen)
) -> None:
    """Train a model from random weights on `tokenizer/shards/train`; write it, as a model folder, into `output`.

    With more than one process in `parallel`, each of them must call this; the first writes. Resumes from
    `output/checkpoints`. Raises `ValueError` for settings that do not fit together, a corpus smaller than one batch, or
    a damaged shard or checkpoint.
    """
    config, _ = model.resolve(Tokenizer.load(tokenizer).vocab_size)
    num_steps, _ = plan_steps(settings, config, parallel)
    shards = tokenizer / "shards" / "train"
    with torch.device("meta"):
        network = Transformer(config)
    network.normalizes_embedding = True  # lets the embedding learn fast without outgrowing the blocks (LOG.md)
    # the index holds every shard's digest, and a shard is checked against it when it is first read
    run_identity = {"seed": seed, "data": digest(shards / INDEX)}
    with join(parallel, settings.device, "pretrain") as mesh:
        batch_of = batches(shards, settings, num_steps, seed, mesh)
        init_weights = partial(Transformer.initialize, seed=seed)
        Trainer(
            network, batch_of, num_steps, settings, output, name="pretrain", run_identity=run_identity,
            callbacks=default_callbacks(), mesh=mesh, init_weights=init_weights,
        ).run()  # fmt: skip
        if mesh.is_first:
            copy_tokenizer(tokenizer, output)
            end = Tokenizer.load(tokenizer).end_of_document  # a base model knows documents, and no turns
            write_generation_config(output, {"eos_token_id": [end], "pad_token_id": end})
        save_model(network, output, writes=mesh.is_first)
