"""A compiled linear map is torch's own function; logits may be wider than what they are made of."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from inhouse.model import layers
from inhouse.model.cpu import choice


@pytest.mark.skipif(not choice._HAS_BOTH, reason="torch lacks oneDNN or MKL")
@pytest.mark.parametrize("bias", [None, torch.randn(40)])
def test_compiled_rows_of_fp32_go_to_an_operator_of_the_same_function(bias) -> None:
    weight = torch.randn(40, 24)
    for x in (torch.randn(5, 24), torch.randn(2, 3, 24), torch.randn(24, 5).T):
        torch.library.opcheck(torch.ops.inhouse.onednn_linear, (x, weight, bias))
        expected = F.linear(x, weight, bias)
        torch.testing.assert_close(torch.ops.inhouse.onednn_linear(x, weight, bias), expected, rtol=1e-5, atol=1e-5)
    called = []

    def note(graph, _inputs):
        called.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    with torch.no_grad():
        torch.compile(partial(layers.linear, weight=weight, bias=bias), backend=note)(torch.randn(5, 24))
    assert "inhouse.onednn_linear" in called


def test_logits_in_fp32_are_not_rounded_to_the_type_of_what_is_multiplied() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_ND, head_VD = (torch.randn(size, 32, generator=generator) for size in (5, 40))
    rounded = hidden_ND.bfloat16().float() @ head_VD.bfloat16().float().T
    found = layers.logits_in_fp32(hidden_ND.bfloat16(), head_VD)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, rounded, rtol=1e-6, atol=1e-6)
    assert (layers.linear(hidden_ND.bfloat16(), head_VD).float() - rounded).abs().max() > 1e-3
    torch.testing.assert_close(layers.logits_in_fp32(hidden_ND, head_VD), hidden_ND @ head_VD.T, rtol=1e-6, atol=1e-6)
