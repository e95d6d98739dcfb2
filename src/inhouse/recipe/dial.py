"""The size dial of training: from a model's depth and width its batch, rates, warm-up and weight decay.

The preview, whose values were tuned, is the point that the rules start from; they are those of nanochat and of marin,
with their exponents until a ladder has refitted them. They expect tokens in proportion to the parameters, as
`tokens_per_parameter` gives them. How many tokens a run really has is not in them: a longer run could not go on from a
shorter one if its rates were others.
"""

import math
from typing import Any

from inhouse.model.config import ModelConfig
from inhouse.model.sizes import Derived
from inhouse.train.settings import TextSettings

_DEPTH, _WIDTH = 4, 256  # of the preview
_BATCH = 0.383  # batch ~ tokens^0.383 (nanochat)
_TOKENS = -0.395  # rate ~ tokens^-0.395 √batch (marin)
_RATE = _TOKENS + _BATCH / 2
_STEPS = 1.0 - _BATCH
# The deviation of what a rate moves falls as 1/√width (nanochat's rule for AdamW). Muon's update has that by itself:
# an element of it has an RMS of rate / √fan-in. A norm's weights are about one at any width.
_BY_WIDTH = {"matrix_lr": 0.0, "embedding_lr": -0.5, "head_lr": -0.5, "router_lr": -0.5, "scalar_lr": 0.0}
_FIGURES = 4  # of a rate

_OF_RATES = f"preview's × size^{_RATE:.4f}: tokens^-0.395 × √batch (marin), batch as tokens^0.383"
RULES = {
    "batch_tokens": "whole sequences of preview's × size^0.383, to a power of two (nanochat: batch ~ tokens^0.383)",
    "matrix_lr": f"{_OF_RATES}; an update's RMS an element is rate / √fan-in (Muon)",
    **{
        f"{kind}_lr": f"{_OF_RATES}; × √(preview's width / width) (nanochat)"
        for kind in ("embedding", "head", "router")
    },
    "scalar_lr": _OF_RATES,
    "warmup_steps": f"preview's × size^{_STEPS:.3f}: the same share of the steps",
    "weight_decay": f"preview's × size^{-_RATE - _STEPS:.4f}: rate × decay × steps stay (Wang and Aitchison, 2024)",
}


def dialled(settings: TextSettings, depth: int, width: int) -> dict[str, Any]:
    """What the dial gives in place of the defaults of `settings`, for a shape; of the preview exactly those."""
    size = size_of(depth, width)
    defaults = {name: field.default for name, field in type(settings).model_fields.items()}
    rates = {
        name: _rounded(defaults[name] * size**_RATE * (width / _WIDTH) ** power) for name, power in _BY_WIDTH.items()
    }
    return rates | {
        "batch_tokens": 2 ** round(math.log2(defaults["batch_tokens"] * size**_BATCH)),
        "warmup_steps": max(1, round(defaults["warmup_steps"] * size**_STEPS)),
        "weight_decay": _rounded(defaults["weight_decay"] * size ** (-_RATE - _STEPS)),
    }


def size_of(depth: int, width: int) -> float:
    """Depth × width², which the blocks' active parameters grow with, over the preview's."""
    return depth * width**2 / (_DEPTH * _WIDTH**2)


def updates(settings: TextSettings, config: ModelConfig) -> list[Derived]:
    """The size, and the RMS of a step's update of an element at the flat rates, for the dry run.

    Of AdamW's kinds it is the rate (somewhat less where gradients change their sign), of Muon's rate / √fan-in.
    """
    factor, width = settings.lr_factor, config.hidden_size
    kinds = {"embedding": settings.embedding_lr, "head": settings.head_lr, "norms": settings.scalar_lr}
    kinds |= {"router": settings.router_lr} if config.is_moe else {}
    return [
        Derived("size", round(size_of(config.num_layers, width), 4), "depth × width² / preview's"),
        Derived(
            "update of a matrix", _rounded(factor * settings.matrix_lr * width**-0.5), "RMS an element, from width"
        ),
        *(Derived(f"update of {kind}", _rounded(factor * rate), "RMS an element") for kind, rate in kinds.items()),
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{_FIGURES}g}")
