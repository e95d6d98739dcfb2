"""What a mixture of experts may cost in calls of kernels, and that none of them is a read by the host."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.tiny_models import tiny_config
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from inhouse.model.config import ModelConfig
from inhouse.model.moe import MoE
from inhouse.parallel.expert_parallel import AllToAllDispatch
from inhouse.plan.fake_world import fake_processes

MOST = {torch.float32: 166, torch.bfloat16: 156}  # with weights cast here, and as FSDP gathers them
_PROCESSES, _TOKENS = 2, 64


class Calls(TorchDispatchMode):
    """While it is entered, counts what reaches the dispatcher, views too; one of our own operators is one call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def calls_of(config: ModelConfig, weights_dtype: torch.dtype = torch.float32) -> Counter[str]:
    """Of the experts of one block in bf16, forward and backward, where two processes share them; not of FSDP.

    `weights_dtype`: of all but the router, which are cast where it is not bf16.
    """
    with fake_processes(_PROCESSES):
        moe = MoE(config)
        keep_own(moe, weights_dtype)
        x_ND = torch.randn(_TOKENS, config.hidden_size, dtype=torch.bfloat16, requires_grad=True)
        with Calls() as counter:
            out_ND: Tensor = moe(x_ND)[0]
            out_ND.backward(x_ND.detach())
    return counter.calls


def keep_own(moe: MoE, dtype: torch.dtype) -> None:
    """This process's share of the experts, as the first of its group."""
    for weight in moe.parameters():
        nn.init.normal_(weight, std=0.1)
    for name, weight in list(moe.experts.named_parameters()):
        setattr(moe.experts, name, nn.Parameter(weight.detach()[: len(weight) // _PROCESSES].clone()))
    moe.experts.to(dtype)
    moe.shared_experts.to(dtype)
    assert dist.group.WORLD is not None
    moe.experts.dispatch = dispatch = AllToAllDispatch(dist.group.WORLD)
    dispatch.share = 1.0


@pytest.mark.parametrize("weights", MOST, ids=str)
def test_a_block_makes_few_calls_and_waits_for_no_number(weights: torch.dtype) -> None:
    calls = calls_of(tiny_config("glm4_moe"), weights)
    assert calls.total() <= MOST[weights], calls
    assert not any("_local_scalar_dense" in name for name in calls)
    assert calls["c10d.alltoall_base_.default"] == 5  # counts; rows there, back, and both ways backwards
    assert calls["aten._grouped_mm.default"] == 6
