"""A decoding step by one call of decode_step.cpp, of a model whose weights lie in our own layout (`Transformer.pack`).

Shapes: N tokens of sequences, M of them wanted, D model width, E experts of which K are chosen, L layers with experts,
V vocabulary.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inhouse.model.cpu import native
from inhouse.model.cpu.packed import Matrix, Packed, Stack
from inhouse.model.layers import Linear, RMSNorm
from inhouse.model.moe import MoE
from inhouse.model.rope import rope_frequencies
from inhouse.model.transformer import EMBEDDING_EPS, Block, Transformer

_NUMBER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, Matrix) for name in ("qkv", "output", "gate_up", "down")),
        *((name, _ADDRESS) for name in ("before_attention", "before_mlp", "q_norm", "k_norm", "cache")),
        *((name, _NUMBER) for name in ("window", "skipped", "has_rope")),
        *((name, _ADDRESS) for name in ("router", "router_bias")),
        *((name, Stack) for name in ("experts_gate_up", "experts_down")),
    )


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("is_bf16", "is_embedding_bf16", "width", "vocab_size", "num_layers")),
        *((name, _NUMBER) for name in ("num_heads", "num_kv_heads", "head_dim", "rotary_dim", "page_size", "top_k")),
        *((name, _NUMBER) for name in ("num_groups", "groups_per_token")),
        *((name, ctypes.c_double) for name in ("norm_eps", "embedding_eps", "routed_scale", "rope_magnitude")),
        *((name, _ADDRESS) for name in ("embedding", "frequencies", "last_norm")),
        ("head", Matrix),
        ("layers", ctypes.POINTER(_Layer)),
        *((name, _ADDRESS) for name in ("embedding_norm", "hidden_norm")),
        ("join", Matrix),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("num", _NUMBER),
        *((name, _ADDRESS) for name in ("tokens", "rows", "positions", "table")),
        ("num_pages", _NUMBER),
        ("num_wanted", _NUMBER),
        *((name, _ADDRESS) for name in ("wanted", "before", "hidden")),
    )


@cache
def _kernel() -> Any:
    library = native.load(Path(__file__).with_suffix(".cpp"))
    if library is None:
        return None
    library.decode_step.argtypes = [*[_ADDRESS] * 5, ctypes.c_int]
    library.decode_step.restype = None
    return library.decode_step


def is_there(model: Transformer) -> bool:
    """Whether the kernel serves this model."""
    return model.is_in_own_layout and _kernel() is not None


class NativeDecoder:
    """As `inhouse.engine.decoding.Decoder`. What it keeps of small weights are copies in fp32: see `refresh`.

    With `is_ahead` it is the layer that predicts the token after the next, which has the last of the `pages`.
    """

    def __init__(self, model: Transformer, pages: list[Tensor], is_ahead: bool = False) -> None:
        """`pages` as `inhouse.engine.cache.kv_cache.KVCache` has them."""
        self._model, self._pages, self._is_ahead = model, pages, is_ahead
        self.refresh()

    def refresh(self) -> None:
        """Read the model's small weights again: they have changed."""
        model, config = self._model, self._model.config
        self._kept: list[Tensor] = []  # that the kernel has bare addresses of
        ahead = model.mtp if self._is_ahead else None
        blocks, norm, pages = (
            (model.layers, model.norm, self._pages)
            if ahead is None
            else ([ahead.block], ahead.shared_head["norm"], self._pages[config.num_layers :])
        )
        self._layers = (_Layer * len(blocks))(*map(self._layer, blocks, pages))
        embedding = model.embed_tokens.weight
        frequencies = rope_frequencies(config, embedding.device)
        self._num_moe = sum(layer.router is not None for layer in self._layers)
        self._plan = _Model(
            self._pages[0].dtype == torch.bfloat16, embedding.dtype == torch.bfloat16, config.hidden_size,
            config.vocab_size, len(blocks), config.num_heads, config.num_kv_heads, config.head_dim,
            config.rotary_dim, self._pages[0].shape[3], config.num_experts_per_token,
            config.num_expert_groups, config.num_groups_per_token, config.rms_norm_eps,
            EMBEDDING_EPS if model.normalizes_embedding else 0.0, config.routed_scaling_factor,
            config.rope_magnitude, self._keep(embedding.detach()), self._fp32(frequencies),
            self._norm(norm), self._matrix(model.lm_head), self._layers,
            *(() if ahead is None else (self._norm(ahead.enorm), self._norm(ahead.hnorm), self._matrix(ahead.eh_proj))),
        )  # fmt: skip

    def __call__(
        self,
        tokens_N: Tensor,
        places: tuple[Tensor, Tensor, Tensor],
        wanted_M: Tensor,
        before_ND: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor], Tensor]:
        """fp32 logits (M, V) behind the tokens `wanted_M`, their log-sum-exp (M), each MoE layer's experts (N, K), and
        all hidden states as they enter the head, in fp32 (N, D).

        `places` as `inhouse.engine.paged_attention.Places`; of one sequence there may be several, at any positions.
        `before_ND`: where it `is_ahead`, the hidden state of the token before each, in fp32.
        """
        table_RP, rows_N, positions_N = places
        num, config = len(tokens_N), self._model.config
        logits_MV, log_totals_M = torch.empty(len(wanted_M), config.vocab_size), torch.empty(len(wanted_M))
        chosen_LNK = torch.empty(self._num_moe, num, config.num_experts_per_token, dtype=torch.int64)
        hidden_ND = torch.empty(num, config.hidden_size)
        addresses = [each.data_ptr() for each in (tokens_N, rows_N, positions_N, table_RP)]
        before = None if before_ND is None else before_ND.data_ptr()
        batch = _Batch(
            num, *addresses, table_RP.shape[1], len(wanted_M), wanted_M.data_ptr(), before, hidden_ND.data_ptr()
        )
        _kernel()(
            ctypes.addressof(self._plan), ctypes.addressof(batch), logits_MV.data_ptr(), log_totals_M.data_ptr(),
            chosen_LNK.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return logits_MV, log_totals_M, list(chosen_LNK), hidden_ND

    def _layer(self, block: torch.nn.Module, cache: Tensor) -> _Layer:
        assert isinstance(block, Block)
        attention, mlp = block.self_attn, block.mlp
        assert attention.qkv is not None and cache.is_contiguous()
        layer = _Layer(
            qkv=self._matrix(attention.qkv), output=self._matrix(attention.o_proj),
            before_attention=self._norm(block.input_layernorm), before_mlp=self._norm(block.post_attention_layernorm),
            q_norm=self._norm(attention.q_norm), k_norm=self._norm(attention.k_norm), cache=self._keep(cache),
            window=attention.window or 0, skipped=int(self._is_ahead), has_rope=attention.has_rope,
        )  # fmt: skip
        if isinstance(mlp, MoE):
            assert mlp.experts.packed is not None
            layer.router, layer.router_bias = map(self._fp32, (mlp.gate.weight, mlp.gate.e_score_correction_bias))
            layer.experts_gate_up, layer.experts_down = (stacks.stack() for stacks in mlp.experts.packed)
            mlp = mlp.shared_experts
        assert mlp.gate_and_up is not None
        layer.gate_up, layer.down = self._matrix(mlp.gate_and_up), self._matrix(mlp.down_proj)
        return layer

    def _matrix(self, linear: Linear) -> Matrix:
        assert isinstance(linear.packed, Packed)
        if linear.bias is None:
            return linear.packed.matrix()
        bias = linear.bias.detach().float().contiguous()
        self._keep(bias)
        return linear.packed.matrix(bias)

    def _norm(self, norm: torch.nn.Module) -> int | None:
        return self._fp32(norm.weight) if isinstance(norm, RMSNorm) else None

    def _fp32(self, weight: Tensor) -> int:
        return self._keep(weight.detach().float().contiguous())

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()
