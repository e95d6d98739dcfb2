"""Muon: updates of matrices made orthogonal (Jordan et al., 2024), whole or sharded.

Shapes: G matrices of one shape stacked, R rows, C columns.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inhouse.common.dtensor import to_local
from inhouse.optim.distributed_muon import by_whole_matrices, num_sharing_rows

BYTES_AT_ONCE = 1 << 28  # of matrices in one batch; what is computed from them takes some ten times that

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
    """Muon over groups of equally shaped tensors, each group orthogonalised in batches of bounded size.

    A parameter of shape (R, C) is one matrix; one of shape (E, R, C) is E matrices. An update is scaled by
    sqrt(max(1, R / C)), which keeps its effect on activations alike for every shape (Jordan et al., "Muon", 2024).
    """

    def __init__(
        self, parameters: list[nn.Parameter], lr: float, weight_decay: float, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        """`dtype` is what orthogonalisation is computed in. There may be no parameters: all matrices are frozen."""
        self.dtype = dtype
        shapes = sorted({tuple(p.shape) for p in parameters})
        groups = [{"params": [p for p in parameters if tuple(p.shape) == shape]} for shape in shapes]
        super().__init__(groups or [{"params": []}], {"lr": lr, "weight_decay": weight_decay, "step": 0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            warm = min(1.0, group["step"] / _MOMENTUM_STEPS)
            beta = _MOMENTUM_START + (_MOMENTUM - _MOMENTUM_START) * warm
            scale = max(1.0, parameters[0].shape[-2] / parameters[0].shape[-1]) ** 0.5
            rate, decay = group["lr"] * scale, group["lr"] * group["weight_decay"]
            for batch in _batches([self._whole(p) for p in parameters], like=parameters[0], dtype=self.dtype):
                updates_GRC = by_whole_matrices(orthogonalize, self._nesterov(batch, beta), like=parameters[0])
                apply_updates([piece.weight for piece in batch], updates_GRC, rate, decay)
                del updates_GRC  # before the next
            group["step"] += 1

    def _whole(self, parameter: nn.Parameter) -> "_Piece":
        """All matrices of a parameter, or what is here of them."""
        if "momentum" not in self.state[parameter]:
            self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        tensors = (to_local(x) for x in (parameter.detach(), parameter.grad, self.state[parameter]["momentum"]))
        # not by view(-1, …): a process may have none of the rows
        return _Piece(*(x if x.ndim == 3 else x[None] for x in tensors))

    def _nesterov(self, batch: list["_Piece"], beta: float) -> Tensor:
        """What is to be orthogonalised (G, R, C), once the momenta have taken up the gradients."""
        _, grads, momenta = zip(*batch, strict=True)
        torch._foreach_lerp_(momenta, grads, 1 - beta)
        sizes = [len(grad) for grad in grads]
        matrices_GRC = grads[0].new_empty(sum(sizes), *grads[0].shape[1:], dtype=self.dtype)
        torch._foreach_copy_(matrices_GRC.split(sizes), torch._foreach_lerp(grads, momenta, beta))
        return matrices_GRC


class _Piece(NamedTuple):
    """Some matrices of one parameter, as views (G, R, C)."""

    weight: Tensor
    grad: Tensor
    momentum: Tensor


def _batches(wholes: list[_Piece], like: Tensor, dtype: torch.dtype) -> Iterator[list[_Piece]]:
    """All matrices in batches of at most `BYTES_AT_ONCE`, but of one a process at least: several parameters, or parts
    of one. The same ones in all processes that share rows.
    """
    num = num_sharing_rows(like)
    bytes_each = max(1, -(-like.shape[-2] // num) * like.shape[-1] * dtype.itemsize)
    most = max(num, BYTES_AT_ONCE // bytes_each // num * num)
    num_here = max(1, len(wholes[0].weight))
    if num_here <= most:
        together = most // num_here
        yield from (wholes[start : start + together] for start in range(0, len(wholes), together))
        return
    share = -(-num_here // -(-num_here // most))  # parts of about the same size
    share = -(-share // num) * num
    for whole in wholes:
        yield from ([_Piece(*part)] for part in zip(*(x.split(share) for x in whole), strict=True))


def apply_updates(weights: list[Tensor], updates_GRC: Tensor, rate: float, decay: float) -> None:
    """Take `rate` times the orthogonalised updates off the weights (G matrices together), in place.

    Decay is cautious: only where it does not oppose the update (Chen et al., 2025).
    """
    sizes = [len(weight) for weight in weights]
    if updates_GRC.device.type == "cpu" and len(weights) > 1:  # one at a time, while it is in the cache
        for weight, update in zip(weights, updates_GRC.split(sizes), strict=True):
            apply_updates([weight], update, rate, decay)
        return
    updates = updates_GRC.float().split(sizes)
    agrees = [product.ge_(0) for product in torch._foreach_mul(updates, weights)]  # 1.0 or 0.0
    torch._foreach_addcmul_(weights, weights, agrees, value=-decay)
    torch._foreach_sub_(weights, updates, alpha=rate)
