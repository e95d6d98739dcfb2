"""The experiment `adamw`: every parameter in AdamW, matrices at the size of update that Muon gives them."""

import torch
from torch import nn

from inhouse.optim.optimizer import Optimizers, kind_of
from inhouse.optim.settings import OptimizerSettings

_BETAS = (0.9, 0.95)  # of matrices, as large runs have them
_RMS = 0.2  # of an element of AdamW's update, over its rate (Moonlight, 2025, section 2.2)


class AllAdamW(Optimizers):
    """Behind the same `step`, schedule and state as `Optimizers`."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(model, settings, dtype)
        groups = []
        for name, parameter in model.named_parameters():
            if kind_of(name, parameter) == "matrix":
                # Muon's update has an RMS of rate / √fan-in; its decay is in units of its own rate
                rate = settings.lr_factor * settings.matrix_lr
                ours = rate * parameter.shape[-1] ** -0.5 / _RMS
                group = {"params": [parameter], "lr": ours, "weight_decay": settings.weight_decay * rate / ours}
                groups.append(group | {"betas": _BETAS})
        for group in groups:
            group["flat_lr"], group["flat_decay"] = group["lr"], group["weight_decay"]
            self.adamw.add_param_group(group)
        self.muon.param_groups.clear()
