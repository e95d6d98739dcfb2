"""What a mixture of experts may cost in calls of kernels, and that none of them is a read by the host."""

import pytest
import torch
from tests.tiny_models import tiny_config

from inhouse.plan.calls import calls_of_moe

MOST = {torch.float32: 166, torch.bfloat16: 156}  # with weights cast here, and as FSDP gathers them


@pytest.mark.parametrize("weights", MOST, ids=str)
def test_a_block_makes_few_calls_and_waits_for_no_number(weights: torch.dtype) -> None:
    calls = calls_of_moe(tiny_config("glm4_moe"), weights)
    assert calls.total() <= MOST[weights], calls
    assert not any("_local_scalar_dense" in name for name in calls)
    assert calls["c10d.alltoall_base_.default"] == 5  # counts; rows there, back, and both ways backwards
    assert calls["aten._grouped_mm.default"] == 6
