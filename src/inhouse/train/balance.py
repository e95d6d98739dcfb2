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


def balance_of(routing: Routing) -> Balance:
    """The load and the entropy of one layer's routing."""
    p_NE = routing.scores_NE.detach()
    p_NE = p_NE / p_NE.sum(dim=-1, keepdim=True).clamp_min(1e-20)
    return Balance(routing.load_E, -(p_NE * p_NE.clamp_min(1e-20).log()).sum(dim=-1).mean())


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
        entropy_L[place] = sum(b.entropy for b in parts) / len(parts)
    load_LE, entropy_L = mesh.sum(load_LE), mesh.sum(entropy_L) / mesh.layout.same_layers
    return [Balance(load_E, entropy) for load_E, entropy in zip(load_LE, entropy_L, strict=True)]


@torch.no_grad()
def move_biases(routers: Sequence[Router], balances: Sequence[Balance], rate: float) -> None:
    """Raise the bias of experts with less than the mean load, lower the others' (Wang et al., 2024)."""
    for router, balance in zip(routers, balances, strict=True):
        load = balance.load_E.float()
        move = torch.sign(load.mean() - load)
        router.e_score_correction_bias += rate * (move - move.mean())
