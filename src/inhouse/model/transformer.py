"""The whole decoder: embedding, blocks, final norm, head. One class for training, generation and export.

Shapes: B batch, T tokens, N = B T, D model width, H query heads, K key-value heads, d head dimension, V vocabulary.
"""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.model.attention import Attention, CausalAttention, InnerAttention
from inhouse.model.config import ModelConfig
from inhouse.model.cpu import choice
from inhouse.model.cpu.packed import Packed, give_back, packed_linear
from inhouse.model.layers import NOISE, Linear, Noise, RMSNorm, SwiGLU, dropped, logits_in_fp32, mixed
from inhouse.model.moe import Experts, MoE, Router, Routing
from inhouse.model.random_weights import fill_normal
from inhouse.model.rope import rope_angles

EMBEDDING_EPS = 1e-6


class Output(NamedTuple):
    """Final hidden states (B, T, D), normed, ready for the head; and the routing of every MoE layer in order."""

    hidden_BTD: Tensor
    routing: list[Routing]
    ahead_ND: Tensor | None = None  # what the same head makes the token after the next of, where that is wanted


class Block(nn.Module):
    """x += attention(norm(x)); x += mlp(norm(x)).

    All but the attention sees tokens, not sequences: compiled once, it serves every cut of N tokens into sequences.
    While it has `noise`, what is added to x goes through dropout (Vaswani et al., 2017, section 5.4).
    """

    noise: Noise | None = None

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MoE(config) if config.layer_is_moe(layer) else SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(
        self, x_ND: Tensor, rope: tuple[Tensor, Tensor], attend: InnerAttention, replayed_NK: Tensor | None = None
    ) -> tuple[Tensor, Routing | None]:
        """`replayed_NK`: the experts that an earlier pass chose (see `Router`); ignored by dense blocks."""
        q_NHd, k_NKd, v_NKd = self.before_attention(x_ND, rope)
        out_NHd = attend(q_NHd, k_NKd, v_NKd, layer=self.self_attn.layer, window=self.self_attn.window)
        return self.after_attention(x_ND, out_NHd, replayed_NK)

    def before_attention(self, x_ND: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        return self.self_attn.heads(self.input_layernorm(x_ND), rope)

    def after_attention(
        self, x_ND: Tensor, out_NHd: Tensor, replayed_NK: Tensor | None = None
    ) -> tuple[Tensor, Routing | None]:
        x_ND = x_ND + self._thinned(self.self_attn.output(out_NHd), 0)
        normed = self.post_attention_layernorm(x_ND)
        out, routing = self.mlp(normed, replayed_NK) if isinstance(self.mlp, MoE) else (self.mlp(normed), None)
        return x_ND + self._thinned(out, 1), routing

    def _thinned(self, x_ND: Tensor, place: int) -> Tensor:
        return x_ND if self.noise is None else dropped(x_ND, self.noise, place)


class PredictionLayer(nn.Module):
    """Multi-token prediction (DeepSeek-V3, 2024, section 2.2): from a token's final hidden state and the embedding of
    the next token to what the model's own head makes the token after that of.

    Named, and computed, as the last layer of GLM-4.5's folders: the embedding comes first, and hidden states are normed
    as they enter the head. vLLM drafts by it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.enorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.hnorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.eh_proj = Linear(2 * config.hidden_size, config.hidden_size)
        self.block = Block(config, config.num_layers)
        self.shared_head = nn.ModuleDict({"norm": RMSNorm(config.hidden_size, config.rms_norm_eps)})

    def forward(
        self, hidden_ND: Tensor, rope: tuple[Tensor, Tensor], attend: InnerAttention, next_ND: Tensor
    ) -> tuple[Tensor, Routing | None]:
        """`next_ND`: embeddings of the tokens that follow. Returns hidden states (N, D) ready for the head."""
        both_NE = torch.cat((self.enorm(next_ND), self.hnorm(hidden_ND)), dim=-1)
        x_ND, routing = self.block(self.eh_proj(both_NE), rope, attend)
        return self.shared_head["norm"](x_ND), routing

    def pack(self, layout: choice.Layout) -> None:
        """See `Linear.packed_from`. Its block is packed part by part."""
        self.eh_proj = Linear.packed_from(layout, self.eh_proj)


class Transformer(nn.Module):
    """A decoder of one `ModelConfig`, its parameters named as Hugging Face names them (without the `model.` prefix).

    Weights are fp32 masters; `dtype` is what activations and matrix products are computed in (set it at any time
    before `pack`). Expert stacks are single tensors here and one tensor an expert on disk. While `normalizes_embedding`
    is set, every embedding is divided by its RMS; `plain_weight` turns that into plain weights of the same function.
    While `head_in_fp32` is set, logits are not rounded to `dtype` on their way to fp32.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype
        self.normalizes_embedding = self.head_in_fp32 = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.mtp = PredictionLayer(config) if config.num_nextn_predict_layers else None
        self.num_weights = sum(weight.numel() for weight in self.parameters())

    @property
    def blocks(self) -> dict[int, Block]:
        """Those that are here, by their layer's number; that of a prediction layer is one above all others."""
        found: dict[int, Block] = {int(number): block for number, block in self.layers.named_children()}  # type: ignore
        return found if self.mtp is None else found | {self.config.num_layers: self.mtp.block}

    def drop_out(self, share: float, words_N: Tensor) -> None:
        """From the next pass on, of N tokens, every block zeroes this share of what it adds to a token.

        It draws from a number below `NOISE` for each token. Compiled code for another share is the same, 0 included.
        """
        places_2 = torch.arange(2, device=words_N.device)[:, None]
        bound = torch.tensor(round(share * NOISE), device=words_N.device)
        for layer, block in self.blocks.items():
            block.noise = Noise(mixed(words_N ^ mixed(2 * layer + places_2 + 1)), bound)

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        attend: InnerAttention | None = None,
        ahead: bool = False,
        replayed_BTLK: Tensor | None = None,
    ) -> Output:
        """Run the blocks. Positions default to 0..T-1 in every row, `attend` to causal attention inside each row.

        `replayed_BTLK`: the experts that each of the L MoE layers takes (see `Router`), the prediction layer left out.

        `ahead`: the prediction layer too, whose routing comes last. Of a row's last token, whose next is not known,
        `ahead_ND` says nothing.
        """
        if positions_BT is None:
            positions_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)[None]
        shape, embedded_ND = tokens_BT.shape, self.embed(tokens_BT.flatten())
        positions_BT = positions_BT.expand(shape)
        replayed_NLK = None if replayed_BTLK is None else replayed_BTLK.flatten(0, 1).long()
        x_ND, routings = self.run(self.layers, embedded_ND, positions_BT, attend, replayed_NLK)
        hidden_BTD = self.norm(x_ND.unflatten(0, shape))
        if not ahead:
            return Output(hidden_BTD, routings)
        assert self.mtp is not None, "asked of a model that has one"
        next_ND = (
            embedded_ND.unflatten(0, shape).roll(-1, dims=1).flatten(0, 1)
        )  # none sees the last, which comes round
        layer = partial(self.mtp, next_ND=next_ND)
        ahead_ND, routing = self.run([layer], hidden_BTD.flatten(0, 1), positions_BT, attend)
        return Output(hidden_BTD, [*routings, *routing], ahead_ND)  # no view of it, which FSDP warns of

    def run(
        self,
        blocks: Iterable[Callable[..., tuple[Tensor, Routing | None]]],
        x_ND: Tensor,
        positions_BT: Tensor,
        attend: InnerAttention | None = None,
        replayed_NLK: Tensor | None = None,
    ) -> tuple[Tensor, list[Routing]]:
        """Take the tokens of B sequences through some consecutive blocks, with the experts of `replayed_NLK`."""
        attend, shape = attend or CausalAttention(), positions_BT.shape

        def attend_in_rows(q_NHd: Tensor, k_NKd: Tensor, v_NKd: Tensor, *, layer: int, window: int | None) -> Tensor:
            q_BTHd, k_BTKd, v_BTKd = (x.unflatten(0, shape) for x in (q_NHd, k_NKd, v_NKd))
            return attend(q_BTHd, k_BTKd, v_BTKd, layer=layer, window=window).flatten(0, 1)

        rope, routings = self.rope(positions_BT.flatten()), list[Routing]()
        for block in blocks:
            replayed: tuple[Tensor, ...] = ()
            if replayed_NLK is not None and len(routings) < replayed_NLK.shape[1]:  # which dense blocks ignore
                replayed = (replayed_NLK[:, len(routings)],)
            x_ND, routing = block(x_ND, rope, attend_in_rows, *replayed)
            if routing is not None:
                routings.append(routing)
        return x_ND, routings

    def embed(self, tokens_N: Tensor) -> Tensor:
        """What enters the first block (N, D)."""
        x_ND = self.embed_tokens(tokens_N)
        if self.normalizes_embedding:
            x_ND = _norm_rows(x_ND)
        return x_ND.to(self.dtype)

    def rope(self, positions_N: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines for every block."""
        return rope_angles(positions_N, self.config, self.dtype)

    def keep(self, layers: Collection[int], embedding: bool, head: bool) -> None:
        """Give up all but these layers, which keep their names, the embedding, and the head with the norm before it."""
        kept = nn.ModuleList()
        for layer in layers:
            kept.add_module(str(layer), self.layers[layer])
        self.layers = kept
        if not embedding:
            del self.embed_tokens
        if not head:
            del self.norm, self.lm_head

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """fp32 logits (B, T, V)."""
        packed = self.lm_head.packed
        if isinstance(packed, Packed):  # not rounded on the way
            return packed_linear(hidden_BTD, packed, in_fp32=True)
        if self.head_in_fp32:
            return logits_in_fp32(hidden_BTD.flatten(0, -2), self.lm_head.weight).unflatten(0, hidden_BTD.shape[:-1])
        return self.lm_head(hidden_BTD).float()

    def pack(self, to_int8: bool = False) -> None:
        """For generation alone, where the device gains by it: lay out the weights of linear maps as its kernels want.

        `to_int8`: round them to 8 bits, 64 of an output's by one scale; embedding, norms and routers stay as they are.
        A head that is tied to the embedding gets a copy of its own. Raises `ValueError` where 8 bits cannot be had.
        """
        if self.lm_head.packed is not None:
            if to_int8 != self.is_int8:
                raise ValueError("the model's weights are laid out otherwise already; open its folder again")
            return
        layout = choice.layout(self.lm_head.weight, to_int8)
        if layout is None or (layout is choice.Layout.ONEDNN and self.head_in_fp32):  # which would round logits
            return
        for module in list(self.modules()):
            if isinstance(module, Attention | SwiGLU | Experts | PredictionLayer):
                module.pack(layout)
                give_back()
        if self.config.tie_embeddings:  # the embedding keeps its own
            self.lm_head.weight = nn.Parameter(self.embed_tokens.weight.detach(), requires_grad=False)
        self.lm_head = Linear.packed_from(layout, self.lm_head)
        give_back()

    @property
    def is_in_own_layout(self) -> bool:
        """Whether `pack` has laid its weights out for our own kernels."""
        return isinstance(self.lm_head.packed, Packed)

    @property
    def is_int8(self) -> bool:
        """Whether `pack` has rounded its weights to 8 bits."""
        return isinstance(self.lm_head.packed, Packed) and self.lm_head.packed.is_int8

    def plain_weight(self, name: str, weight: Tensor) -> Tensor:
        """What the whole of this model's `name` is in a model of the same function that norms no embedding."""
        is_normed = self.normalizes_embedding and name == "embed_tokens.weight"
        return _norm_rows(weight) if is_normed else weight

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Random weights from `seed` alone, the same on every device: matrices normal with deviation 1/sqrt(fan in).

        Of a model that is spread over processes, this fills the part that is here, with the same numbers.
        Output and down projections start at zero, so that every block starts as the identity; with random attention
        output early routing collapses (MAI-Thinking-1 report, 2026).
        """
        names: dict[Tensor, str] = {weight: name for name, weight in self.named_parameters()}

        def fill(weight: Tensor, deviation: float) -> None:
            fill_normal(weight, deviation, seed, names[weight])

        zero = {id(projection) for block in self.blocks.values() for projection in _last_projections(block)}
        for module in self.modules():
            if isinstance(module, Linear):
                deviation = 0.001 if module is getattr(self, "lm_head", None) else module.in_features**-0.5
                to_local(module.weight).zero_() if id(module) in zero else fill(module.weight, deviation)
                if module.bias is not None:
                    to_local(module.bias).zero_()
            elif isinstance(module, nn.Embedding):
                fill(module.weight, 1.0)
            elif isinstance(module, Experts):
                stack, both = module.gate_up_proj, names[module.gate_up_proj]
                kinds = [both.replace("gate_up_proj", f"{kind}_proj") for kind in ("gate", "up")]
                fill_normal(stack, stack.shape[-1] ** -0.5, seed, *kinds)
                to_local(module.down_proj).zero_()
            elif isinstance(module, Router):
                fill(module.weight, module.weight.shape[-1] ** -0.5)
                module.e_score_correction_bias.zero_()
            elif isinstance(module, RMSNorm):
                to_local(module.weight).fill_(1.0)


def _norm_rows(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=EMBEDDING_EPS)


def _last_projections(block: nn.Module) -> tuple[Linear, Linear]:
    """Of a block's attention and of what all tokens pass after it."""
    assert isinstance(block, Block)
    mlp = block.mlp.shared_experts if isinstance(block.mlp, MoE) else block.mlp
    assert isinstance(mlp, SwiGLU)
    return block.self_attn.o_proj, mlp.down_proj
