"""The parts of a block, each against torch's own."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from inhouse.model import layers
from inhouse.model.layers import Linear


@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (2, 3, 24)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_linear_map_is_the_same_with_and_without_gradients(shape, bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear, x = Linear(24, 40, bias), torch.randn(shape).to(dtype)
    expected = F.linear(x.float(), linear.weight.to(dtype).float(), linear.bias.to(dtype).float() if bias else None)
    with_gradients = linear(x)
    with torch.no_grad():
        without = linear(x)
    assert with_gradients.dtype == without.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(with_gradients.float(), expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(without.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.skipif(not layers._PREFERS_ONEDNN, reason="torch lacks oneDNN or MKL")
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


def test_weights_that_change_are_seen() -> None:
    linear, x = Linear(8, 8), torch.randn(4, 8)
    with torch.no_grad():
        linear(x)
        linear.weight.mul_(2.0)
        torch.testing.assert_close(linear(x), x @ linear.weight.T)
