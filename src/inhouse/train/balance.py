"""How evenly the experts of every MoE layer are used, and the bias that evens it out.

Shapes: N tokens, E experts, L MoE layers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from inhouse.model.config import ModelConfig
from inhouse.model.moe import Router, Routing
from inhouse.parallel.device_mesh import SINGLE, Mesh


class Balance(NamedTuple):
    """How evenly one MoE layer's experts are used."""

    load_E: Tensor  # tokens an expert
    entropy: Tensor  # mean entropy of a token's scores over the experts, in nats


def balance_of(routing: Routing, is_text_N: Tensor | None = None) -> Balance:
    """The load and the entropy of one layer's routing, of all tokens or of some.

    What fills up rows is to be left out: it is one token many times, so its experts would seem to be overrun, and the
    bias would turn the text away from them (as in Megatron-LM #1984).
    """
    p_NE = routing.scores_NE.detach()
    p_NE = p_NE / p_NE.sum(dim=-1, keepdim=True).clamp_min(1e-20)
    entropy_N = -(p_NE * p_NE.clamp_min(1e-20).log()).sum(dim=-1)
    if is_text_N is None:
        return Balance(routing.load_E, entropy_N.mean())
    chosen = is_text_N[:, None].expand_as(routing.experts_NK).flatten().to(routing.load_E.dtype)
    load_E = torch.zeros_like(routing.load_E).scatter_add_(0, routing.experts_NK.flatten(), chosen)
    return Balance(load_E, (entropy_N * is_text_N).sum() / is_text_N.sum().clamp_min(1))


def sum_balances(
    micro_batches: Sequence[Sequence[Balance]],
    config: ModelConfig,
    places: Sequence[int],
    device: torch.device,
    mesh: Mesh = SINGLE,
) -> list[Balance]:
    """Every MoE layer's balance over the micro-batches of a step and over all processes.

    A micro-batch has one for each layer here, whose places among all MoE layers are `places`.
    """
    num_layers = len(config.moe_layers)
    if not num_layers:
        return []
    load_LE = torch.zeros(num_layers, config.num_experts, dtype=torch.int64, device=device)
    entropy_L = torch.zeros(num_layers, device=device)
    for place, parts in zip(places, zip(*micro_batches, strict=True), strict=True):
        load_LE[place] = sum(b.load_E for b in parts)
        entropy_L[place] = sum(b.entropy * b.load_E.sum() for b in parts)  # by tokens: some may have few, or none
    load_LE = mesh.sum(load_LE)
    entropy_L = mesh.sum(entropy_L) / load_LE.sum(dim=1).clamp_min(1)
    return [Balance(load_E, entropy) for load_E, entropy in zip(load_LE, entropy_L, strict=True)]


@torch.no_grad()
def move_biases(routers: Sequence[Router], balances: Sequence[Balance], rate: float) -> None:
    """Raise the bias of experts with less than the mean load, lower the others' (Wang et al., 2024)."""
    for router, balance in zip(routers, balances, strict=True):
        load = balance.load_E.float()
        move = torch.sign(load.mean() - load)
        router.e_score_correction_bias += rate * (move - move.mean())
