"""How many steps a pretraining run has, and whether its numbers fit together. No torch: a recipe is checked with it."""

from itertools import product

from inhouse.model.config import ModelConfig
from inhouse.model.fp8.needs import check_sides
from inhouse.model.sizes import Derived, ModelSettings
from inhouse.parallel.layout import ParallelSettings, check_layout
from inhouse.train.settings import MidtrainSettings, PretrainSettings, TextSettings, TrainSettings, check_window


def pretrains(settings: PretrainSettings, model: ModelSettings) -> bool:
    """Whether pretraining has a step: with a base only where its tokens are given."""
    return model.base is None or settings.tokens is not None


def midtrains(settings: MidtrainSettings) -> bool:
    """Whether there is such a stage."""
    return settings.tokens is not None


def lengthened(config: ModelConfig, settings: MidtrainSettings) -> ModelConfig:
    """The shape of `config` after mid-training, which may lengthen its context. Raises `ValueError` where RoPE ends."""
    new = settings.rope_scaling
    if new is not None and new.original_length > config.max_position:
        raise ValueError(
            f"[{settings.table}] rope_scaling: original_length = {new.original_length} is more than the context "
            f"before, {config.max_position} tokens; nearest: original_length = {config.max_position}"
        )
    context, scaling = max(config.max_position, settings.sequence_length), new or config.rope_scaling
    if scaling is not None:
        scaling.check_reach(settings.table, context)
    return ModelConfig(**config.model_dump() | {"max_position": context, "rope_scaling": scaling})


def trained_shape(config: ModelConfig, settings: TrainSettings) -> ModelConfig:
    """The shape that a stage trains of a model of `config`: `mtp_weight = 0` leaves its prediction layer out."""
    return config if settings.mtp_weight else config.model_copy(update={"num_nextn_predict_layers": 0})


def after_pretraining(settings: PretrainSettings, model: ModelSettings, config: ModelConfig) -> ModelConfig:
    """What pretraining leaves of `config`; with a base that is only fine-tuned, all of it."""
    return trained_shape(config, settings) if pretrains(settings, model) else config


def plan_steps(settings: TextSettings, config: ModelConfig, parallel: ParallelSettings) -> tuple[int, list[Derived]]:
    """Steps of a run over the text, and the numbers that follow from its settings with their rules.

    Raises `ValueError` where the sequence, the batch, the context and the processes do not fit together.
    """
    _check_lengths(settings, trained_shape(config, settings), parallel)
    batch, length = settings.batch_tokens, settings.sequence_length
    active = config.count_parameters().active
    tokens, rule = settings.tokens, f"[{settings.table}] tokens"
    if tokens is None:
        assert isinstance(settings, PretrainSettings), "without tokens there is no mid-training"
        tokens = round(settings.tokens_per_parameter * active)
        rule = "tokens_per_parameter × active parameters"
    steps = max(1, tokens // batch)
    check_window(settings.profile, steps, settings.table)
    return steps, [
        Derived("sequences a step", batch // length, "batch_tokens / sequence_length"),
        Derived("sequences a process", batch // length // parallel.data, "sequences a step / (replicate × shard)"),
        Derived("steps", steps, f"{rule}, / batch_tokens"),
        Derived("tokens", steps * batch, "steps × batch_tokens"),
        Derived("tokens a parameter", round(steps * batch / active, 2), "tokens / active parameters"),
        Derived("training FLOPs", 6.0 * steps * batch * active, "6 × active parameters × tokens"),
    ]


def _check_lengths(settings: TextSettings, config: ModelConfig, parallel: ParallelSettings) -> None:
    length, batch = settings.sequence_length, settings.batch_tokens
    if length > config.max_position:
        raise ValueError(
            f"[{settings.table}] sequence_length = {length} is more than [model] context = {config.max_position}; "
            f"lower the one or raise the other"
        )
    untils = [phase.until for phase in settings.sequence_warmup]
    if untils != sorted(set(untils)):
        raise ValueError(f"[{settings.table}] sequence_warmup: until = {untils} must grow from phase to phase")
    lengths = [
        ("sequence_length", length),
        *(("length", min(phase.length, length)) for phase in settings.sequence_warmup),
    ]
    for (what, each), name in product(lengths, ("batch_tokens", "micro_batch_tokens")):
        value = getattr(settings, name)
        if value is not None and value % each:
            nearest = max(1, round(value / each)) * each
            raise ValueError(
                f"[{settings.table}] {name} = {value} is not a multiple of {what} = {each}; nearest: {nearest}"
            )
    for _, each in lengths:
        check_layout(parallel, config, batch // each, each, settings.micro_batch_tokens, settings.compile)
        if settings.is_fp8:
            check_sides(config, each // parallel.context, settings.table)
