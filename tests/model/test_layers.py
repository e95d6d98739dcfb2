"""A compiled linear map is torch's own function."""

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
