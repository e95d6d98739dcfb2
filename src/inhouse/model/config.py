"""The shape of a model, in the words of the three Hugging Face architectures that inhouse trains."""

import math
from typing import Literal, NamedTuple, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from inhouse.common.settings import Settings

Architecture = Literal["qwen3", "glm4_moe", "exaone_moe"]


MOST_LAYERS = 10_000  # a folder that says more is damaged, and would take minutes to be refused


class ParameterCount(NamedTuple):
    """`total` parameters, and those `active` for one token (embedding and head included in both)."""

    total: int
    active: int


class RopeScaling(Settings):
    """A context longer than the one that a model was first trained for, by slowing RoPE's slow pairs (YaRN).

    Raises `pydantic.ValidationError` where the numbers do not fit together.
    """

    factor: float = Field(gt=1, le=1e6, description="how many times as long the context is to be")
    original_length: PositiveInt = Field(description="the context before, in tokens")
    beta_fast: PositiveFloat = Field(default=32.0, description="pairs that turn as often in it, or more, stay")
    beta_slow: PositiveFloat = Field(default=1.0, description="pairs that turn as rarely, or less, are slowed in full")
    attention_factor: PositiveFloat | None = Field(
        default=None, description="times cosines and sines; default: 0.1 ln factor + 1"
    )

    @model_validator(mode="after")
    def _ramp_rises(self) -> Self:
        if self.beta_fast <= self.beta_slow:
            raise ValueError(f"beta_fast = {self.beta_fast} is not more than beta_slow = {self.beta_slow}")
        return self

    def check_reach(self, table: str, context: int) -> None:
        """Raise `ValueError` where it does not stretch the original length to `context`; `table` is who asks."""
        if self.factor * self.original_length < context:
            raise ValueError(
                f"[{table}] rope_scaling: factor = {self.factor:g} × original_length = {self.original_length} is less "
                f"than the context of {context} tokens; nearest: factor = {context / self.original_length:g}"
            )

    @property
    def has_usual_ramp(self) -> bool:
        """Whether the pairs are chosen as everybody does by default."""
        usual = type(self).model_fields
        return all(getattr(self, name) == usual[name].default for name in ("beta_fast", "beta_slow"))

    @property
    def default_attention_factor(self) -> float:
        return 0.1 * math.log(self.factor) + 1.0


class ModelConfig(Settings):
    """One model's shape, complete: nothing here is derived later.

    `qwen3` is dense (Qwen3ForCausalLM); `glm4_moe` has routed and shared experts after `num_dense_layers` leading
    dense layers (Glm4MoeForCausalLM); `exaone_moe` is the same block with sliding-window layers, and without RoPE in
    the global layers (ExaoneMoeForCausalLM).

    Raises `pydantic.ValidationError` where the numbers do not fit together.
    """

    architecture: Architecture
    vocab_size: PositiveInt
    hidden_size: PositiveInt
    num_layers: int = Field(gt=0, le=MOST_LAYERS)
    num_heads: PositiveInt
    num_kv_heads: PositiveInt
    head_dim: PositiveInt
    intermediate_size: PositiveInt
    max_position: PositiveInt = Field(description="longest context, in tokens")
    rope_theta: PositiveFloat = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: PositiveFloat = 1e-6

    # only to open other people's folders; ours have the defaults
    tie_embeddings: bool = Field(default=False, description="the head is the embedding")
    attention_bias: bool = Field(default=False, description="of queries, keys and values")
    qk_norm: bool = Field(default=True, description="RMSNorm of every head's query and key; glm4_moe may lack it")
    partial_rotary_factor: float = Field(
        default=1.0, gt=0, le=1, description="part of a head that RoPE turns; glm4_moe"
    )

    num_experts: int = Field(default=0, ge=0)
    num_experts_per_token: int = Field(default=0, ge=0)
    moe_intermediate_size: int = Field(default=0, ge=0)
    num_shared_experts: int = Field(default=0, ge=0)
    num_dense_layers: int = Field(default=0, ge=0, description="leading layers without experts")
    routed_scaling_factor: PositiveFloat = 1.0
    num_expert_groups: int = Field(default=1, ge=1, description="groups of experts, such as those of one node")
    num_groups_per_token: int = Field(default=1, ge=1, description="groups that a token's experts may be of")
    num_nextn_predict_layers: int = Field(default=0, ge=0, description="layers that predict the token after the next")

    sliding_window: int = Field(default=0, ge=0, description="tokens a local layer sees; 0: every layer is global")
    sliding_window_pattern: int = Field(default=4, ge=2, description="every n-th layer is global")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads = {self.num_heads} is not a multiple of num_kv_heads = {self.num_kv_heads}")
        if self.rotary_dim % 2:
            raise ValueError(f"RoPE would turn {self.rotary_dim} of head_dim = {self.head_dim} numbers; it turns pairs")
        if self.architecture != "glm4_moe" and not (self.qk_norm and self.partial_rotary_factor == 1.0):
            raise ValueError("only glm4_moe may lack qk_norm or turn a part of a head (partial_rotary_factor)")
        if self.rope_scaling and self.sliding_window:
            raise ValueError(
                "rope_scaling does not go with exaone_moe, whose layers that see far have no RoPE; remove it"
            )
        if self.num_nextn_predict_layers and self.architecture != "glm4_moe":
            raise ValueError(f"num_nextn_predict_layers belongs to glm4_moe, not to {self.architecture}; remove it")
        if self.num_nextn_predict_layers > 1:
            raise ValueError(
                f"num_nextn_predict_layers = {self.num_nextn_predict_layers}, but a model here predicts one more token "
                f"at most; nearest: 1"
            )
        if self.is_moe:
            self._check_experts()
        elif self.num_experts or self.num_expert_groups > 1:
            raise ValueError("qwen3 is dense; num_experts must be 0, and num_expert_groups 1")
        if bool(self.sliding_window) != (self.architecture == "exaone_moe"):
            raise ValueError("sliding_window belongs to exaone_moe, and exaone_moe needs one")
        return self

    def _check_experts(self) -> None:
        if not 1 <= self.num_experts_per_token <= self.num_experts:
            raise ValueError(
                f"num_experts_per_token = {self.num_experts_per_token} is not in 1..num_experts = {self.num_experts}"
            )
        if self.moe_intermediate_size < 1 or self.num_shared_experts < 1:
            raise ValueError("a mixture of experts needs moe_intermediate_size and num_shared_experts of at least 1")
        if self.num_dense_layers >= self.num_layers:
            raise ValueError(f"num_dense_layers = {self.num_dense_layers} leaves no layer with experts")
        self._check_expert_groups()

    def _check_expert_groups(self) -> None:
        groups, chosen = self.num_expert_groups, self.num_groups_per_token
        if chosen > groups:
            raise ValueError(f"num_groups_per_token = {chosen} is not in 1..num_expert_groups = {groups}")
        if groups > 1 and (self.num_experts % groups or self.num_experts < 2 * groups):
            fitting = [size for size in range(1, self.num_experts // 2 + 1) if self.num_experts % size == 0]
            raise ValueError(
                f"num_expert_groups = {groups} does not cut num_experts = {self.num_experts} into equal groups of at "
                f"least two; nearest: {min(fitting, key=lambda size: abs(size - groups), default=1)}"
            )
        if self.num_experts_per_token > chosen * (self.num_experts // groups):
            raise ValueError(
                f"num_experts_per_token = {self.num_experts_per_token} experts are not to be had from "
                f"num_groups_per_token = {chosen} groups of {self.num_experts // groups}"
            )

    @property
    def rotary_dim(self) -> int:
        """Numbers of a head, from its first on, that RoPE turns."""
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def rope_magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        scaling = self.rope_scaling
        return 1.0 if scaling is None else scaling.attention_factor or scaling.default_attention_factor

    @property
    def is_moe(self) -> bool:
        return self.architecture != "qwen3"

    def layer_is_moe(self, layer: int) -> bool:
        return self.is_moe and layer >= self.num_dense_layers

    @property
    def moe_layers(self) -> list[int]:
        """Layers with experts; one that predicts the token after the next comes after all others."""
        return [n for n in range(self.num_layers + self.num_nextn_predict_layers) if self.layer_is_moe(n)]

    def window(self, layer: int) -> int | None:
        """Tokens that this layer's attention sees (itself included), or None for all."""
        is_global = not self.sliding_window or (layer + 1) % self.sliding_window_pattern == 0
        return None if is_global else self.sliding_window

    def layer_has_rope(self, layer: int) -> bool:
        return not self.sliding_window or self.window(layer) is not None

    def count_parameters(self) -> ParameterCount:
        """Parameters by arithmetic alone, so that a 500 B model is counted without being built.

        What predicts the token after the next is in the total alone: nothing that the model says depends on it.
        """
        width, attention_width = self.hidden_size, self.num_heads * self.head_dim
        kv_width = self.num_kv_heads * self.head_dim
        attention = 2 * width * attention_width + 2 * width * kv_width + (2 * self.head_dim if self.qk_norm else 0)
        attention += attention_width + 2 * kv_width if self.attention_bias else 0
        expert = 3 * width * self.moe_intermediate_size
        router = self.num_experts * width + self.num_experts  # its correction bias is a buffer, but it is stored
        num_moe = sum(self.layer_is_moe(layer) for layer in range(self.num_layers))
        everywhere = (
            (1 if self.tie_embeddings else 2) * self.vocab_size * width
            + width
            + self.num_layers * (attention + 2 * width)
            + (self.num_layers - num_moe) * 3 * width * self.intermediate_size
            + num_moe * (self.num_shared_experts * expert + router)
        )
        ahead = 2 * width * width + 3 * width  # eh_proj, enorm, hnorm and shared_head.norm, around a layer with experts
        ahead += attention + 2 * width + (self.num_shared_experts + self.num_experts) * expert + router
        return ParameterCount(
            total=everywhere + num_moe * self.num_experts * expert + self.num_nextn_predict_layers * ahead,
            active=everywhere + num_moe * self.num_experts_per_token * expert,
        )
