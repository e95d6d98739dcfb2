"""The size dial: a named size gives a depth, the depth gives every other number, and any of them can be set by hand."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, PositiveFloat

from inhouse.common.settings import Settings
from inhouse.model.config import Architecture, ModelConfig, RopeScaling

# What each size fixes; all that is not here follows from the depth by the rules in `ModelSettings.resolve`.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"depth": 2, "hidden_size": 64, "head_dim": 16},
    "preview": {"depth": 4, "num_kv_heads": 2},
    "small": {"depth": 12},
    "medium": {"depth": 20},
    "large": {"depth": 32},
    "500b": {"depth": 70, "hidden_size": 6144, "num_heads": 48, "num_experts": 256, "num_experts_per_token": 12},
}
_EXPERTS_BY_DEPTH = ((8, 16, 2), (24, 64, 8), (48, 128, 8))  # up to this depth: so many experts, so many a token
_MORE_EXPERTS = (256, 8)
# a number without a bound would be counted up to, for hours, by whoever looks for a divisor or sums over layers
Dimension = Annotated[int, Field(ge=1, le=1 << 22)]


class Derived(NamedTuple):
    """One number of a resolved recipe and the rule that gave it."""

    name: str
    value: object
    rule: str


class ModelSettings(Settings):
    """The `[model]` table: an architecture, a size, and any number that should not follow from the size.

    Or a `base`, whose folder says all of these (`checkpoint.shape`).
    """

    beside_the_result = frozenset({"base", "base_licence"})  # by the folder's content

    base: Path | None = Field(default=None, description="a model folder or run whose weights to start from")
    base_licence: str = Field(default="unknown", description="what the model in base may be used under")
    architecture: Architecture = "glm4_moe"
    size: str = Field(default="preview", description=f"one of {', '.join(SIZES)}")
    context: Dimension = Field(default=512, description="longest context the model is trained for, in tokens")
    depth: Annotated[int, Field(ge=1, le=10_000)] | None = None
    hidden_size: Dimension | None = None
    num_heads: Dimension | None = None
    num_kv_heads: Dimension | None = None
    head_dim: Dimension | None = None
    intermediate_size: Dimension | None = None
    num_experts: Dimension | None = None
    num_experts_per_token: Dimension | None = None
    moe_intermediate_size: Dimension | None = None
    num_shared_experts: Dimension | None = None
    num_dense_layers: int | None = Field(default=None, ge=0, le=10_000)
    num_expert_groups: Dimension | None = None
    num_groups_per_token: Dimension | None = None
    rope_theta: PositiveFloat | None = None
    rope_scaling: RopeScaling | None = Field(
        default=None, description="YaRN, for a context longer than the one that the weights were first trained for"
    )
    sliding_window: Dimension | None = None
    num_nextn_predict_layers: int | None = Field(
        default=None,
        ge=0,
        description="1: a layer that learns to predict the token after the next (multi-token prediction), for "
        "glm4_moe; default: none",
    )

    def resolve(self, vocab_size: int) -> tuple[ModelConfig, list[Derived]]:
        """The complete shape for a vocabulary, and every number of it with its rule.

        Raises `ValueError` for an unknown size, `pydantic.ValidationError` for numbers that do not fit together.
        """
        if self.size not in SIZES:
            raise ValueError(f"[model] size = {self.size!r} is not known; it is one of {', '.join(SIZES)}")
        dial = _Dial(self)
        _resolve_width(dial)
        is_moe = self.architecture != "qwen3"
        if is_moe:
            _resolve_experts(dial)
        _resolve_feed_forward(dial, is_moe)
        length = self.context
        if self.rope_scaling is not None:
            self.rope_scaling.check_reach("model", self.context)
            length = self.rope_scaling.original_length
            dial.set("rope_scaling", 0, "")
        dial.set("rope_theta", 10_000.0 if length <= 4096 else 1_000_000.0, "10,000 up to 4,096 tokens, else 1 M")
        if self.architecture == "exaone_moe":
            dial.set("sliding_window", max(128, self.context // 8), "an eighth of the context")
        if self.num_nextn_predict_layers is not None:
            dial.set("num_nextn_predict_layers", 0, "")
        shape = {name: value for name, value in dial.values.items() if name != "depth"}
        config = ModelConfig(
            architecture=self.architecture,
            vocab_size=vocab_size,
            num_layers=dial.values["depth"],
            max_position=self.context,
            **shape,
        )
        total, active = config.count_parameters()
        dial.derived += [
            Derived("parameters", total, "counted from the shape, embedding and head included"),
            Derived("active parameters", active, "what one token passes through"),
        ]
        return config, dial.derived

    def depth_and_width(self) -> tuple[int, int]:
        """Layers and the width of the shape, for a `size` that is known and without a `base`."""
        dial = _Dial(self)
        _resolve_width(dial)
        return dial.values["depth"], dial.values["hidden_size"]


class _Dial:
    """Collects numbers in order: set by hand, else fixed by the size, else by the rule."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.fixed = SIZES[settings.size]
        self.values: dict[str, Any] = {}
        self.derived: list[Derived] = []
        self.set("depth", 0, "")

    def set(self, name: str, value: float, rule: str) -> None:
        by_hand = getattr(self.settings, name, None)
        if by_hand is not None:
            value, rule = by_hand, f"[model] {name}"
        elif name in self.fixed:
            value, rule = self.fixed[name], f"size {self.settings.size}"
        self.values[name] = value
        self.derived.append(Derived(name, value, rule))


def _resolve_width(dial: _Dial) -> None:
    values = dial.values
    dial.set("hidden_size", _round_up(64 * values["depth"], 128), "64 × depth, up to a multiple of 128")
    dial.set("head_dim", 64 if values["hidden_size"] < 1024 else 128, "64 below a width of 1,024, else 128")
    dial.set("num_heads", max(1, values["hidden_size"] // values["head_dim"]), "width / head_dim")
    heads = values["num_heads"]
    kv_heads = next(count for count in (8, 4, 2, 1) if count <= max(1, heads // 4) and heads % count == 0)
    dial.set("num_kv_heads", kv_heads, "8, 4, 2 or 1: at most a quarter of the heads, whole on 8 GPUs that serve it")


def _resolve_experts(dial: _Dial) -> None:
    values, depth = dial.values, dial.values["depth"]
    experts, top_k = next((rest for limit, *rest in _EXPERTS_BY_DEPTH if depth <= limit), _MORE_EXPERTS)
    dial.set("num_experts", experts, "16 to depth 8, 64 to 24, 128 to 48, then 256")
    dial.set("num_experts_per_token", top_k, "2 to depth 8, then 8")
    width = _round_up(values["hidden_size"] // (2 if depth <= 48 else 4), 32 if values["hidden_size"] < 256 else 128)
    dial.set("moe_intermediate_size", width, "width / 2 (a quarter above depth 48), up to a multiple of 128")
    dial.set("num_shared_experts", 1, "one")
    dial.set("num_dense_layers", 1 if depth <= 48 else 3, "one, three above depth 48")
    dial.set("num_expert_groups", 1, "one: a token's experts may be anywhere")
    dial.set("num_groups_per_token", 1, "one")
    dial.set(
        "routed_scaling_factor",
        round(values["num_experts_per_token"] ** 0.5, 3),
        "√ experts a token: k independent experts weighted 1/k sum to the deviation of one",
    )


def _resolve_feed_forward(dial: _Dial, is_moe: bool) -> None:
    values = dial.values
    if is_moe:
        experts = values["num_experts_per_token"] + values["num_shared_experts"]
        dial.set("intermediate_size", experts * values["moe_intermediate_size"], "the experts a token sees, together")
    else:
        dial.set("intermediate_size", 3 * values["hidden_size"], "3 × width")


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
