"""Muon: updates of matrices made orthogonal (Jordan et al., 2024), whole or sharded.

Shapes: G matrices of one shape stacked, R rows, C columns.
"""

import torch
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.optim.distributed_muon import by_whole_matrices

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
