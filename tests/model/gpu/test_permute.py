"""The kernels, by Triton's interpreter, against the reference in torch."""

import importlib
import os
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch

from inhouse.model.permute import copies, place_groups, sums, sums_gradients

CASES = [(7, 1, 33, 1), (23, 3, 64, 8), (5, 2, 1100, 4)]  # tokens, experts a token, width, room
HAS_DEVICE = torch.cuda.is_available() or "TRITON_INTERPRET" in os.environ
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
on_device = pytest.mark.skipif(not HAS_DEVICE, reason="no GPU; the interpreter has a process of its own")


@pytest.mark.skipif(HAS_DEVICE, reason="the kernels run here")
def test_all_of_this_file_in_the_interpreter() -> None:
    """It is chosen where Triton is imported."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", __file__], env=environment, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    return importlib.import_module("inhouse.model.gpu.permute")


@on_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_are_the_reference(kernels: ModuleType, case: tuple[int, ...], dtype: torch.dtype) -> None:
    num, top_k, width, room = case
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    groups_NK = torch.rand(num, 6, generator=generator).topk(top_k)[1]
    rows_NK, _, num_rows = place_groups(groups_NK, 6, room)
    x_ND, grad_ND = (torch.randn(num, width, generator=generator).to(device, dtype) for _ in range(2))
    x_MD = torch.randn(num_rows, width, generator=generator).to(device, dtype)
    weights_NK, rows_NK = torch.rand(num, top_k, generator=generator).to(device), rows_NK.to(device)
    assert torch.equal(kernels.permute(x_ND, rows_NK, num_rows), copies(x_ND, rows_NK, num_rows))
    for weights in (None, weights_NK):
        torch.testing.assert_close(kernels.combine(x_MD, weights, rows_NK), sums(x_MD, weights, rows_NK))
    found = kernels.combine_gradients(grad_ND, x_MD, weights_NK, rows_NK)
    expected = sums_gradients(grad_ND, x_MD, weights_NK, rows_NK)
    torch.testing.assert_close(found[0], expected[0])  # the interpreter cuts numbers to bf16, and does not round
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)


@on_device
def test_shapes_are_known_without_a_device(kernels: ModuleType) -> None:
    x_MD, rows_NK = torch.empty(20, 8, device="meta"), torch.empty(6, 3, dtype=torch.int64, device="meta")
    weights_NK = torch.empty(6, 3, device="meta")
    assert kernels.permute(x_MD[:6], rows_NK, 20).shape == (20, 8)
    assert kernels.combine(x_MD, weights_NK, rows_NK).shape == (6, 8)
    shapes = [each.shape for each in kernels.combine_gradients(x_MD[:6], x_MD, weights_NK, rows_NK)]
    assert shapes == [(20, 8), (6, 3)]
