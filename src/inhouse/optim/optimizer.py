"""Muon on matrices and expert stacks, AdamW on the embedding, the head, norms, the router and adapters.

Sharded or whole. What is frozen has no optimizer.
"""

from typing import Any

import torch
from torch import Tensor, nn

from inhouse.model.lora.names import is_adapter
from inhouse.optim.muon import Muon
from inhouse.optim.settings import OptimizerSettings


class Optimizers:
    """The two optimizers of one model behind one `step`, one schedule and one state that holds no pickle."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings, dtype: torch.dtype = torch.bfloat16) -> None:
        """`dtype` is what Muon orthogonalises in."""
        self._names: dict[Any, str] = {p: name for name, p in model.named_parameters()}
        rates = {
            "embedding": settings.embedding_lr,
            "head": settings.head_lr,
            "router": settings.router_lr,
            "scalar": settings.scalar_lr,
            "adapter": settings.adapter_lr,
        }
        matrices, rest = [], {kind: [] for kind in rates}  # type: ignore[var-annotated]
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                kind = kind_of(name, parameter)
                (matrices if kind == "matrix" else rest[kind]).append(parameter)
        factor = settings.lr_factor
        self.muon = Muon(matrices, factor * settings.matrix_lr, settings.weight_decay, dtype)
        self.adamw = torch.optim.AdamW(
            [{"params": rest[kind], "lr": factor * rate} for kind, rate in rates.items() if rest[kind]],
            betas=(0.8, 0.96),
            eps=1e-10,
            weight_decay=0.0,
            fused=True,
        )
        for optimizer in (self.muon, self.adamw):
            for group in optimizer.param_groups:
                group["flat_lr"], group["flat_decay"] = group["lr"], group["weight_decay"]

    def step(self, fraction: float) -> None:
        """One update at `fraction` of the flat learning rates; weight decay fades with them. Clears the gradients."""
        for optimizer in (self.muon, self.adamw):
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = fraction * group["flat_lr"], fraction * group["flat_decay"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Every tensor of state, itself, by `parameter name/key`; made where no step has made it yet.

        Plus `muon.step`, for the momentum's warm-up, which is a copy.
        """
        self._begin()
        state = {"muon.step": torch.tensor(max((group["step"] for group in self.muon.param_groups), default=0))}
        for optimizer in (self.muon, self.adamw):
            for parameter, entries in optimizer.state.items():
                state |= {f"{self._names[parameter]}/{key}": value for key, value in entries.items()}
        return state

    def count_from(self, muon_step: Tensor) -> None:
        """Take up the one entry of `state` that is a copy."""
        for group in self.muon.param_groups:
            group["step"] = int(muon_step)

    def _begin(self) -> None:
        """The state that torch's AdamW and our Muon make in their first step."""
        for group in self.muon.param_groups:
            for parameter in group["params"]:
                if not self.muon.state[parameter]:
                    self.muon.state[parameter] = {"momentum": torch.zeros_like(parameter)}
        for group in self.adamw.param_groups:
            for parameter in group["params"]:
                if not self.adamw.state[parameter]:
                    step = torch.zeros((), dtype=torch.float32, device=parameter.device)
                    moments = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
                    self.adamw.state[parameter] = {"step": step, **moments}


def kind_of(name: str, parameter: nn.Parameter) -> str:
    """Which rate a parameter has: adapter, embedding, head, router, matrix or scalar."""
    if is_adapter(name):
        return "adapter"
    if name == "embed_tokens.weight":
        return "embedding"
    if name == "lm_head.weight":
        return "head"
    if name.endswith("mlp.gate.weight"):
        return "router"
    return "matrix" if parameter.ndim >= 2 else "scalar"
