"""Numbers that follow from others where a recipe does not write them: context, sequences and batches fit by themselves.

What a model is trained on and what it is trained for are one number, so that neither can be set without the other.
"""

from typing import TypeVar

from inhouse.common.settings import Settings
from inhouse.model.sizes import SIZES, ModelSettings
from inhouse.posttrain.settings import SftSettings
from inhouse.recipe.dial import RULES, dialled
from inhouse.train.settings import MidtrainSettings, PretrainSettings
from inhouse.train.step_count import midtrains

AnySettings = TypeVar("AnySettings", bound=Settings)

# the rules, as the dry run shows them
FOLLOWS: dict[tuple[str | int, ...], str] = {
    ("model", "context"): "the longest sequence_length that is written, else 512",
    **{(section, "sequence_length"): "[model] context" for section in ("pretrain", "midtrain", "sft")},
    **{
        (section, "batch_tokens"): "as many whole sequences as 4,096 tokens hold, at least one, with replay two"
        for section in ("pretrain", "midtrain", "sft")
    },
}
# and of a model from random weights, by its size
DIAL: dict[tuple[str | int, ...], str] = {
    (section, name): rule for section in ("pretrain", "midtrain") for name, rule in RULES.items()
}


def follow(
    model: ModelSettings, pretrain: PretrainSettings, midtrain: MidtrainSettings, sft: SftSettings
) -> dict[str, Settings]:
    """The four tables with what follows filled in; it still counts as not written (`model_fields_set`).

    What is fine-tuned after mid-training may have its context, which is no matter of the model before.
    """
    of_context = (pretrain,) if midtrains(midtrain) else (pretrain, sft)
    written = [each.sequence_length for each in of_context if "sequence_length" in each.model_fields_set]
    if model.base is None:  # whose context is its own, and often much longer than what it is trained on here
        model = filled(model, context=max(written, default=model.context))
        pretrain = filled(pretrain, sequence_length=model.context)
        midtrain = filled(midtrain, sequence_length=model.context)
        sft = filled(sft, sequence_length=model.context)
        if model.size in SIZES:  # else it is refused later, with its line
            depth, width = model.depth_and_width()
            pretrain = filled(pretrain, **dialled(pretrain, depth, width))
            midtrain = filled(midtrain, **dialled(midtrain, depth, width))
    trained: list[Settings] = []
    for each in (pretrain, midtrain, sft):
        length, least = each.sequence_length, 2 if each is sft and sft.replay else 1  # a single row replays nothing
        trained.append(filled(each, batch_tokens=max(least, each.batch_tokens // length) * length))
    return {"model": model, **dict(zip(("pretrain", "midtrain", "sft"), trained, strict=True))}


def filled(settings: AnySettings, **values: object) -> AnySettings:
    """The settings with `values` where nothing is written; what is filled in still counts as not written."""
    unwritten = {name: value for name, value in values.items() if name not in settings.model_fields_set}
    copy = settings.model_copy(update=unwritten)
    copy.model_fields_set.difference_update(unwritten)
    return copy
