"""The pretrain stage: shards in, a base model's folder out."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch

from inhouse.common.files import digest
from inhouse.data.loader import WindowLoader
from inhouse.data.shards import INDEX
from inhouse.data.tokenizer import Tokenizer
from inhouse.model import ModelConfig, Transformer
from inhouse.model.sizes import Derived, ModelSettings
from inhouse.train.layout import ParallelSettings, check_layout
from inhouse.train.mesh import ALONE, Mesh
from inhouse.train.model_folder import copy_tokenizer, save_model
from inhouse.train.settings import PretrainSettings
from inhouse.train.trainer import Batch, train
from inhouse.train.world import join


def plan_steps(
    settings: PretrainSettings, config: ModelConfig, parallel: ParallelSettings
) -> tuple[int, list[Derived]]:
    """Steps of a pretraining run, and the numbers that follow from its settings with their rules.

    Raises `ValueError` where the sequence, the batch, the context and the processes do not fit together.
    """
    _check_lengths(settings, config, parallel)
    batch, length = settings.batch_tokens, settings.sequence_length
    active = config.count_parameters().active
    tokens = settings.tokens or round(settings.tokens_per_parameter * active)
    steps = max(1, tokens // batch)
    rule = "[pretrain] tokens" if settings.tokens else "tokens_per_parameter × active parameters"
    return steps, [
        Derived("sequences a step", batch // length, "batch_tokens / sequence_length"),
        Derived("sequences a process", batch // length // parallel.data, "sequences a step / (replicate × shard)"),
        Derived("steps", steps, f"{rule}, / batch_tokens"),
        Derived("tokens", steps * batch, "steps × batch_tokens"),
        Derived("tokens a parameter", round(steps * batch / active, 2), "tokens / active parameters"),
        Derived("training FLOPs", 6.0 * steps * batch * active, "6 × active parameters × tokens"),
    ]


def _check_lengths(settings: PretrainSettings, config: ModelConfig, parallel: ParallelSettings) -> None:
    length, batch = settings.sequence_length, settings.batch_tokens
    if length > config.max_position:
        raise ValueError(
            f"[pretrain] sequence_length = {length} is more than [model] context = {config.max_position}; "
            f"lower the one or raise the other"
        )
    untils = [phase.until for phase in settings.sequence_warmup]
    if untils != sorted(set(untils)):
        raise ValueError(f"[pretrain] sequence_warmup: until = {untils} must grow from phase to phase")
    lengths = [
        ("sequence_length", length),
        *(("length", min(phase.length, length)) for phase in settings.sequence_warmup),
    ]
    for (what, each), name in product(lengths, ("batch_tokens", "micro_batch_tokens")):
        value = getattr(settings, name)
        if value is not None and value % each:
            nearest = max(1, round(value / each)) * each
            raise ValueError(f"[pretrain] {name} = {value} is not a multiple of {what} = {each}; nearest: {nearest}")
    for _, each in lengths:
        check_layout(parallel, config, batch // each, each)


def batches(
    shards: Path, settings: PretrainSettings, num_steps: int, seed: int, mesh: Mesh = ALONE
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
        window = torch.from_numpy(loader.batch(step, mesh.slots(loader.sequences_per_step)))
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
    facts = {"seed": seed, "data": digest(shards / INDEX)}
    with join(parallel, settings.device, "pretrain") as mesh:
        batch_of = batches(shards, settings, num_steps, seed, mesh)
        fill = partial(Transformer.initialize, seed=seed)
        train(network, batch_of, num_steps, settings, output, name="pretrain", facts=facts, mesh=mesh, fill=fill)
        if mesh.is_first:
            copy_tokenizer(tokenizer, output)
        save_model(network, output, writes=mesh.is_first)
