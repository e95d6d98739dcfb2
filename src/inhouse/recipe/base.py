"""`[model] base`: what a recipe need not say, or cannot, because the folder that it starts from says it.

Torch is loaded here where there is a base, and only then.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from inhouse.common.model_paths import find_model
from inhouse.common.settings import Settings
from inhouse.export.settings import ExportSettings
from inhouse.model.sizes import ModelSettings
from inhouse.optim.settings import RATES_OF_A_BASE
from inhouse.recipe.follow import DIAL, FOLLOWS, filled
from inhouse.recipe.lines import Location
from inhouse.rl.settings import RATES_ON_A_BASE
from inhouse.train.step_count import midtrains, pretrains

if TYPE_CHECKING:
    from inhouse.posttrain.base_folder import BaseFolder

_LENGTH = 512  # tokens of a sequence, where the recipe does not say: a base's whole context is a very long one
_BESIDE_A_SHAPE = {"base", "base_licence"}
_OF_TRAINING_A_TOKENIZER = {"vocab_size", "pre_tokenizer", "sample_bytes"}

_TRAINED = ("pretrain", "midtrain", "sft")
_RATE = "default of a [model] base: small steps from weights that are good already"
NO_SPLIT = "none can be written: the base's tokenizer_config.json has no pre_tokenizer_name, which llama.cpp needs"
# the rules, as the dry run shows them
_FROM_BASE: dict[Location, str] = {
    ("model", "architecture"): "from base",
    ("model", "context"): "from base",
    ("tokenizer", "vocab_size"): "tokens of the base's tokenizer",
    ("tokenizer", "pre_tokenizer"): "not used: the tokenizer is the base's",
    ("tokenizer", "sample_bytes"): "not used: the tokenizer is the base's",
    ("pretrain", "tokens"): "default: the base's weights are taken as they are",
    ("pretrain", "tokens_per_parameter"): "not used: [pretrain] tokens says",
    **{(section, "sequence_length"): f"{_LENGTH}, or [model] context where that is less" for section in _TRAINED},
    **{(section, name): _RATE for section in _TRAINED for name in RATES_OF_A_BASE},
    **{("rl", name): _RATE for name in RATES_ON_A_BASE},
    ("sft", "generated"): "none: a [model] base knows what it knows",
    ("evaluate", "context"): "the longest sequence_length",
    ("sft", "sampling.temperature"): "the base's generation_config.json, where it says",
    ("sft", "sampling.top_p"): "the base's generation_config.json, where it says",
}  # fmt: skip


def rules_of(model: ModelSettings, export: ExportSettings) -> dict[Location, str]:
    """The rules of what follows, for a recipe with these tables."""
    if model.base is None:
        return {**FOLLOWS, **DIAL}
    return {**FOLLOWS, **_FROM_BASE, **({} if export.gguf else {("export", "gguf"): NO_SPLIT})}


def refused(tables: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Every key that a recipe with a base gives and cannot, with a sentence; `tables` are the recipe's, by name."""
    for key in sorted(tables["model"].model_fields_set - _BESIDE_A_SHAPE):
        yield ("model", key), f"[model] {key} does not go with base, whose folder has a shape of its own; remove it"
    for key in sorted(tables["tokenizer"].model_fields_set & _OF_TRAINING_A_TOKENIZER):
        yield ("tokenizer", key), f"[tokenizer] {key} does not go with [model] base, which brings its own; remove it"
    if "tokens_per_parameter" in tables["pretrain"].model_fields_set:
        yield (
            ("pretrain", "tokens_per_parameter"),
            "[pretrain] tokens_per_parameter is for a model from random weights; with [model] base give tokens, "
            "or neither for fine-tuning alone",
        )


def open_recipe_base(model: ModelSettings) -> "BaseFolder":
    """The folder that `base` means, looked at whole. Raises `ValueError` where it cannot be trained further."""
    from inhouse.posttrain.base_folder import open_base

    assert model.base is not None
    return open_base(find_model(model.base))


def fill_from_base(base: "BaseFolder", tables: Mapping[str, Any]) -> dict[str, Settings]:
    """The tables with what the base says, and with defaults for going on from one, where the recipe writes nothing.

    What is filled in still counts as not written. Raises `ValueError` where GGUF files are asked for in vain.
    """
    context, sft, export = base.config.max_position, tables["sft"], tables["export"]
    usual = {"sequence_length": min(_LENGTH, context), **RATES_OF_A_BASE}
    pretrain, midtrain = (filled(tables[name], **usual) for name in ("pretrain", "midtrain"))
    sft = filled(sft, generated={}, **usual)
    if base.sampling is not None:
        sampling = filled(sft.sampling, **base.sampling.model_dump())
        written = set(sft.model_fields_set)
        sft = sft.model_copy(update={"sampling": sampling})
        sft.model_fields_set.intersection_update(written)
    if base.tokenizer.pre_tokenizer_name is None:
        if "gguf" in export.model_fields_set and export.gguf:
            raise ValueError(f"[export] gguf: {NO_SPLIT}; name it there or remove this line")
        export = filled(export, gguf=())
    is_trained = pretrains(pretrain, tables["model"])
    longest = max(sft.sequence_length, pretrain.sequence_length if is_trained else 0)
    if midtrains(midtrain):
        longest = max(longest, midtrain.sequence_length)
        context = max(context, midtrain.sequence_length)
    return {
        "model": filled(tables["model"], architecture=base.config.architecture, context=base.config.max_position),
        "tokenizer": filled(tables["tokenizer"], vocab_size=base.tokenizer.vocab_size),
        "pretrain": pretrain,
        "midtrain": midtrain,
        "sft": sft,
        "rl": filled(tables["rl"], **RATES_ON_A_BASE),
        "evaluate": filled(tables["evaluate"], context=min(context, longest)),
        "export": export,
    }
