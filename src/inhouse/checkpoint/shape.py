"""The shape of the model that a recipe asks for: by its size, or that of the folder that it starts from."""

from inhouse.common.model_paths import find_model, model_name
from inhouse.model.config import ModelConfig
from inhouse.model.sizes import Derived, ModelSettings


def resolve_shape(model: ModelSettings, vocab_size: int) -> tuple[ModelConfig, list[Derived]]:
    """The complete shape, and every number of it with its rule; with a `base` the vocabulary is the base's.

    Raises `ValueError` as `ModelSettings.resolve` does, and where `base` is no folder that inhouse opens.
    """
    if model.base is None:
        return model.resolve(vocab_size)
    from inhouse.checkpoint.model_folder import read_config  # here: whoever only reads a recipe needs no torch

    config = read_config(find_model(model.base))
    rule = f"from {model_name(model.base)}"
    shape = config.model_dump(exclude_defaults=True, exclude={"architecture", "max_position"})
    total, active = config.count_parameters()
    return config, [
        *(Derived(name, value, rule) for name, value in shape.items()),
        Derived("parameters", total, "counted from the shape, embedding and head included"),
        Derived("active parameters", active, "what one token passes through"),
    ]
