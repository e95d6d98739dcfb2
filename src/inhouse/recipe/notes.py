"""What is said in one line before a run begins: settings that do nothing beside the others, too many passes."""

from collections.abc import Iterator

from pydantic import BaseModel

from inhouse.checkpoint.shape import resolve_shape
from inhouse.common.files import read_json
from inhouse.common.model_paths import find_model
from inhouse.data.text_size import passes_warning
from inhouse.export.settings import BLOCK, QUANTIZED
from inhouse.model.config import ModelConfig
from inhouse.posttrain.step_count import lost_beside_made
from inhouse.recipe.base import NO_SPLIT
from inhouse.recipe.passes import Passes
from inhouse.recipe.recipe import Recipe
from inhouse.rl.settings import climbs
from inhouse.train.step_count import midtrains

_OF_EXPERTS = (
    "num_experts", "num_experts_per_token", "moe_intermediate_size", "num_shared_experts", "num_dense_layers",
    "num_expert_groups", "num_groups_per_token",
)  # fmt: skip
_OF_ROUTERS = ("router_lr", "balance_rate", "sequence_balance")
_OF_WEIGHTS = ("matrix_lr", "embedding_lr", "head_lr", "scalar_lr", "router_lr", "weight_decay", "balance_rate")


def notes(recipe: Recipe, passes: Passes) -> list[str]:
    """A sentence for every setting that the recipe writes and that changes nothing, and one on the passes."""
    rules = (
        _dense,
        _windows,
        _prediction,
        _tokens,
        _mid_training,
        _climb,
        _short_sequences,
        _micro_batches,
        _fine_tuning,
        _adapters,
        _evaluation,
        _alone,
    )
    without_effect = [f"{sentence}; leave it out" for rule in rules for sentence in rule(recipe)]
    warning = passes_warning(passes.passes)
    passed = [warning] if warning else []
    return [*without_effect, *passed, *_gguf(recipe), *_left_out(recipe), *_own_conversations(recipe)]


def _gguf(recipe: Recipe) -> Iterator[str]:
    """Files that are not written, or that hold other types than the one that they are called by."""
    if recipe.model.base is not None and not recipe.export.gguf and not _written(recipe.export, "gguf"):
        yield f"[export] gguf: {NO_SPLIT}; the Hugging Face folder is written"
    if wanted := [weights for weights in recipe.export.gguf if weights in QUANTIZED]:
        shape, _ = resolve_shape(recipe.model, recipe.tokenizer.vocab_size)
        if odd := [width for width in _row_widths(shape) if width % BLOCK]:
            yield (
                f"[export] gguf: for {' and '.join(wanted)} a row must be whole blocks of {BLOCK} numbers: rows of "
                f"{' and '.join(map(str, odd))} are kept in larger types, and the model card says how many"
            )


def _left_out(recipe: Recipe) -> Iterator[str]:
    """What of a base no stage takes along."""
    if recipe.model.base is None:
        return
    from inhouse.model.huggingface import config_from_hf  # here: whoever only reads a recipe needs no torch

    told = read_json(find_model(recipe.model.base) / "config.json")
    count = told.get("num_nextn_predict_layers")
    if count and not config_from_hf(told).num_nextn_predict_layers:
        yield (
            f"[model] base: its config.json has num_nextn_predict_layers = {count}; such layers are left out, but for "
            f"a single one of a glm4_moe"
        )


def _row_widths(shape: ModelConfig) -> list[int]:
    """How many numbers a row of its matrices has: what a linear map reads."""
    widths = {shape.hidden_size, shape.num_heads * shape.head_dim}
    if shape.is_moe:
        widths |= {shape.moe_intermediate_size, shape.num_shared_experts * shape.moe_intermediate_size}
    if not all(map(shape.layer_is_moe, range(shape.num_layers))):
        widths.add(shape.intermediate_size)
    return sorted(widths)


def _own_conversations(recipe: Recipe) -> Iterator[str]:
    if (sentence := lost_beside_made(recipe.sft)) is not None:
        yield sentence


def _written(settings: BaseModel, *names: str) -> list[str]:
    return [name for name in names if name in settings.model_fields_set]


def _dense(recipe: Recipe) -> Iterator[str]:
    if recipe.model.architecture == "qwen3":
        for name in _written(recipe.model, *_OF_EXPERTS):
            yield f'[model] {name} has no effect: architecture = "qwen3" is dense and has no experts'
        for section in ("pretrain", "midtrain", "sft", "rl"):
            for name in _written(getattr(recipe, section), *_OF_ROUTERS):
                yield f'[{section}] {name} has no effect: architecture = "qwen3" is dense and has no router'


def _windows(recipe: Recipe) -> Iterator[str]:
    if recipe.model.architecture != "exaone_moe" and _written(recipe.model, "sliding_window"):
        yield f"[model] sliding_window has no effect: {recipe.model.architecture} has no layer that sees a part only"


def _prediction(recipe: Recipe) -> Iterator[str]:
    tables = ("pretrain", "midtrain", "sft")
    written = [section for section in tables if _written(getattr(recipe, section), "mtp_weight")]
    if not written or resolve_shape(recipe.model, recipe.tokenizer.vocab_size)[0].num_nextn_predict_layers:
        return
    for section in written:
        yield f"[{section}] mtp_weight has no effect: the model has no layer for it ([model] num_nextn_predict_layers)"


def _tokens(recipe: Recipe) -> Iterator[str]:
    if recipe.pretrain.tokens is not None and _written(recipe.pretrain, "tokens_per_parameter"):
        yield "[pretrain] tokens_per_parameter has no effect beside tokens"


def _mid_training(recipe: Recipe) -> Iterator[str]:
    written = recipe.midtrain.model_fields_set - {"grace_seconds"}  # which a cluster's job sets for all
    if written and not midtrains(recipe.midtrain):
        yield f"[midtrain] {sorted(written)[0]} has no effect without tokens, which say how long it is"


def _climb(recipe: Recipe) -> Iterator[str]:
    written = recipe.rl.model_fields_set - {"grace_seconds"}
    if written and not climbs(recipe.rl):
        yield f"[rl] {sorted(written)[0]} has no effect without environments, which say on which problems"


def _short_sequences(recipe: Recipe) -> Iterator[str]:
    length = recipe.pretrain.sequence_length
    for phase in recipe.pretrain.sequence_warmup:
        if phase.length >= length:
            yield f"[pretrain] sequence_warmup length = {phase.length} has no effect: sequence_length is {length}"


def _micro_batches(recipe: Recipe) -> Iterator[str]:
    for section in ("pretrain", "midtrain", "sft"):
        settings = getattr(recipe, section)
        mine = settings.batch_tokens // recipe.parallel.data
        if settings.micro_batch_tokens is not None and settings.micro_batch_tokens > mine:
            yield (
                f"[{section}] micro_batch_tokens = {settings.micro_batch_tokens} has no effect: a process's part of a "
                f"step has {mine} tokens"
            )


def _fine_tuning(recipe: Recipe) -> Iterator[str]:
    if recipe.sft.sampling.temperature == 0 and _written(recipe.sft.sampling, "top_p"):
        yield "[sft] sampling.top_p has no effect at temperature = 0, which always takes the likeliest token"


def _adapters(recipe: Recipe) -> Iterator[str]:
    """Beside them nothing is trained."""
    for section in ("pretrain", "midtrain", "sft", "rl"):
        settings = getattr(recipe, section)
        has_adapters = getattr(settings, "lora", None) is not None
        if not has_adapters and _written(settings, "adapter_lr"):
            yield f"[{section}] adapter_lr has no effect without lora, which only [sft] and [rl] have"
        for name in _written(settings, *_OF_WEIGHTS) if has_adapters else ():
            yield f"[{section}] {name} has no effect beside lora, which trains nothing but adapters (adapter_lr)"


def _evaluation(recipe: Recipe) -> Iterator[str]:
    asked = recipe.evaluate.environments
    is_none = not any(recipe.sft.generated.values()) if asked is None else not asked
    counts = ["problems_per_kind", "unscored_per_kind"]
    if not recipe.sft.conversations:  # else own conversations are asked, and their answers cut by it
        counts.append("max_answer_tokens")
    for name in _written(recipe.evaluate, *counts):
        if is_none:
            yield f"[evaluate] {name} has no effect: no environment's problems are asked"


def _alone(recipe: Recipe) -> Iterator[str]:
    if recipe.parallel.processes == 1 and _written(recipe.parallel, "timeout_seconds"):
        yield "[parallel] timeout_seconds has no effect: one process waits for no other"
