"""What makes two training runs the same one, and which settings may change on the way."""

from typing import Any

from inhouse.model.config import ModelConfig
from inhouse.train.settings import MAY_CHANGE, TrainSettings

KEYS_THAT_MAY_CHANGE = frozenset(f"train.{name}" for name in MAY_CHANGE)


def run_identity(num_steps: int, config: ModelConfig, settings: TrainSettings, own: dict[str, Any]) -> dict[str, Any]:
    """Steps, model, all settings, and what is the stage's `own` (seed, data, …)."""
    trained = {"model": config.model_dump(mode="json"), "train": settings.model_dump(mode="json")}
    return {"num_steps": num_steps, **trained, **own}


def keys_that_may_change(settings: TrainSettings) -> frozenset[str]:
    """Those of `run_identity` that a run may go on with another value of."""
    return frozenset(f"train.{name}" for name in settings.beside_the_result)


def default_settings(settings: TrainSettings) -> dict[str, Any]:
    """What a run of older code, which does not name a setting, had in its place."""
    shape = {name: field.default for name, field in ModelConfig.model_fields.items() if not field.is_required()}
    return {"train": type(settings)().model_dump(mode="json"), "model": shape}
