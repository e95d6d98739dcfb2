"""What a climb comes to, said before it begins. No torch."""

from inhouse.model.config import ModelConfig
from inhouse.model.sizes import Derived
from inhouse.rl.settings import RlSettings, climbs


def plan_climb(settings: RlSettings, config: ModelConfig) -> list[Derived]:
    """Answers, tokens and memory of a climb of a model of this shape; nothing where there is none."""
    if not climbs(settings):
        return []
    answers = settings.prompts * settings.samples
    longest = answers * settings.max_tokens
    weights = 2 * config.count_parameters().total * (2 if settings.precision == "fp32" else 1)
    return [
        Derived("answers a step", answers, "prompts × samples"),
        Derived("tokens a step", longest, "answers × max_tokens, at most; beside them those that are not learnt from"),
        Derived("tokens sampled", settings.steps * longest, "steps × tokens a step, at most, likewise"),
        Derived("copy of the weights, bytes", weights, "what samples has them as it computes, beside the masters"),
    ]
