"""Muon on matrices and expert stacks, AdamW on the embedding, the head, norms and the router; sharded or whole.

Shapes: G matrices of one shape stacked, R rows, C columns.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.optim.distributed_muon import by_whole_matrices
from inhouse.optim.settings import OptimizerSettings

# Coefficients of the odd polynomials a x + b x³ + c x⁵ that take singular values to one in five steps
# (Amsel et al., "The Polar Express", 2025).
_POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
)
_MOMENTUM_START, _MOMENTUM, _MOMENTUM_STEPS = 0.85, 0.95, 300
_SAFETY = 1.02  # every step but the last aims this much lower: a value that bf16 rounds above one would explode


def orthogonalize(matrix_GRC: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices U Vᵀ, to about the precision of bf16, in five polynomial steps."""
    is_tall = matrix_GRC.shape[-2] > matrix_GRC.shape[-1]
    x = matrix_GRC
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * _SAFETY + 1e-6)
    for index, (a, b, c) in enumerate(_POLAR_EXPRESS):
        if index < len(_POLAR_EXPRESS) - 1:
            a, b, c = a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5
        gram = x.mT @ x if is_tall else x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        left, right = (x, polynomial) if is_tall else (polynomial, x)
        x = torch.baddbmm(x, left, right, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Muon over groups of equally shaped tensors, each group orthogonalised as one batch.

    A parameter of shape (R, C) is one matrix; one of shape (E, R, C) is E matrices. An update is scaled by
    sqrt(max(1, R / C)), which keeps its effect on activations alike for every shape (Jordan et al., "Muon", 2024).
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        """`dtype` is what orthogonalisation is computed in."""
        self.dtype = dtype
        shapes = sorted({tuple(p.shape) for p in parameters})
        groups = [{"params": [p for p in parameters if tuple(p.shape) == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "step": 0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            warm = min(1.0, group["step"] / _MOMENTUM_STEPS)
            beta = _MOMENTUM_START + (_MOMENTUM - _MOMENTUM_START) * warm
            matrices = torch.stack([self._nesterov(p, beta).to(self.dtype) for p in parameters])
            # not by view(-1, …): a process may have none of the rows
            parts_GRC = matrices.flatten(0, -3)
            updates = by_whole_matrices(orthogonalize, parts_GRC, like=parameters[0]).view_as(matrices)
            scale = max(1.0, parameters[0].shape[-2] / parameters[0].shape[-1]) ** 0.5
            for p, update in zip(parameters, updates, strict=True):
                apply_update(to_local(p), update, group["lr"] * scale, group["lr"] * group["weight_decay"])
            group["step"] += 1

    def _nesterov(self, parameter: nn.Parameter, beta: float) -> Tensor:
        if "momentum" not in self.state[parameter]:
            self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        momentum, grad = to_local(self.state[parameter]["momentum"]), to_local(parameter.grad)
        momentum.lerp_(grad, 1 - beta)
        return grad.lerp(momentum, beta)


def apply_update(weight: Tensor, update: Tensor, rate: float, decay: float) -> None:
    """Take `rate` times an orthogonalised update off the weight, in place; one at a time, while it is in the cache.

    Decay is cautious: only where it does not oppose the update (Chen et al., 2025).
    """
    update = update.float()
    agrees = (update * weight).ge_(0)  # 1.0 or 0.0
    weight.addcmul_(weight, agrees, value=-decay).sub_(update, alpha=rate)


class Optimizers:
    """The two optimizers of one model behind one `step`, one schedule and one state that holds no pickle."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings, dtype: torch.dtype = torch.bfloat16) -> None:
        """`dtype` is what Muon orthogonalises in."""
        self._names = {p: name for name, p in model.named_parameters()}
        matrices, rest = [], {"embedding": [], "head": [], "router": [], "scalar": []}  # type: ignore[var-annotated]
        for name, parameter in model.named_parameters():
            kind = _kind(name, parameter)
            (matrices if kind == "matrix" else rest[kind]).append(parameter)
        rates = {
            "embedding": settings.embedding_lr,
            "head": settings.head_lr,
            "router": settings.router_lr,
            "scalar": settings.scalar_lr,
        }
        self.muon = Muon(matrices, settings.matrix_lr, settings.weight_decay, dtype)
        self.adamw = torch.optim.AdamW(
            [{"params": rest[kind], "lr": rate} for kind, rate in rates.items() if rest[kind]],
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
        state = {"muon.step": torch.tensor(self._muon_step())}
        for parameter, key, value in self._entries():
            state[f"{self._names[parameter]}/{key}"] = value
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

    def _muon_step(self) -> int:
        return max((group["step"] for group in self.muon.param_groups), default=0)

    def _entries(self) -> Iterator[tuple[Any, str, Tensor]]:
        for optimizer in (self.muon, self.adamw):
            for parameter, entries in optimizer.state.items():
                for key, value in entries.items():
                    yield parameter, key, value


def _kind(name: str, parameter: nn.Parameter) -> str:
    if name == "embed_tokens.weight":
        return "embedding"
    if name == "lm_head.weight":
        return "head"
    if name.endswith("mlp.gate.weight"):
        return "router"
    return "matrix" if parameter.ndim >= 2 else "scalar"
