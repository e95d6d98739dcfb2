"""Processes that share sequences attend as one process does, forwards and backwards, whoever holds which tokens."""

import pytest
import torch
from tests.processes import in_processes
from torch import Tensor

from inhouse.model.attention import CausalAttention
from inhouse.parallel.context_parallel import share_context
from inhouse.parallel.device_mesh import Mesh
from inhouse.parallel.layout import ParallelSettings

LENGTH, HEADS, KV_HEADS = 48, 4, 2
CASES = [(window, has_documents) for window in (None, 5, 30) for has_documents in (False, True)]


def inputs(dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Queries, keys, values and the gradient of the output, of whole sequences."""
    torch.manual_seed(0)
    return tuple(torch.randn(2, LENGTH, heads, 16).to(dtype) for heads in (HEADS, KV_HEADS, KV_HEADS, HEADS))


def documents(is_there: bool) -> Tensor | None:
    torch.manual_seed(1)
    return torch.randint(0, 4, (2, LENGTH)).sort(dim=1)[0] if is_there else None


def attended(layout: ParallelSettings, dtype: torch.dtype) -> list[list[Tensor]]:
    """Of every case: this process's places, its output and its gradients."""
    mesh, results = Mesh(layout), []
    columns = mesh.cp_columns(LENGTH)
    for window, has_documents in CASES:
        attend = CausalAttention(documents(has_documents))
        shared = attend if mesh.sequence is None else share_context(attend, mesh.sequence)
        *qkv, grad = (x[:, columns] for x in inputs(dtype))
        leaves = [x.requires_grad_() for x in qkv]
        out = shared(*leaves, layer=0, window=window)
        out.backward(grad)
        results.append([columns, *(x.detach().clone() for x in (out, *(leaf.grad for leaf in leaves)))])
    return results


LAYOUTS = [(1, 2), (2, 2), (2, 4), (4, 4)]  # ring, context


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: f"ring {layout[0]} of {layout[1]}")
def parts(request: pytest.FixtureRequest) -> dict[torch.dtype, list[list[list[Tensor]]]]:
    ring, context = request.param
    layout = ParallelSettings(context=context, ring=ring)
    return {dtype: in_processes(context, attended, layout, dtype) for dtype in (torch.float32, torch.bfloat16)}


def put_together(parts: list[list[list[Tensor]]], case: int) -> list[Tensor]:
    """Output and gradients of whole sequences; every place comes from one process."""
    columns = torch.cat([part[case][0] for part in parts])
    assert columns.sort()[0].tolist() == list(range(LENGTH))
    return [
        torch.cat(each, dim=1)[:, columns.argsort()] for each in zip(*(part[case][1:] for part in parts), strict=True)
    ]


def test_fp32_is_one_process(parts: dict[torch.dtype, list[list[list[Tensor]]]]) -> None:
    alone = attended(ParallelSettings(), torch.float32)
    for case, (_, *expected) in enumerate(alone):
        torch.testing.assert_close(put_together(parts[torch.float32], case), expected, rtol=1e-5, atol=1e-5)


def test_bf16_is_no_further_from_the_truth_than_one_process(parts: dict[torch.dtype, list[list[list[Tensor]]]]) -> None:
    truth = attended(ParallelSettings(), torch.float32)
    alone = attended(ParallelSettings(), torch.bfloat16)
    for case in range(len(CASES)):
        found = put_together(parts[torch.bfloat16], case)
        for ours, theirs, exact in zip(found, alone[case][1:], truth[case][1:], strict=True):
            assert (ours - exact).norm() <= 1.2 * (theirs - exact).norm() + 1e-3 * exact.norm()
