"""The GPU's allocator is set once, and only where the user has not."""

import pytest
import torch

from inhouse.common.devices import grow_gpu_segments


@pytest.mark.parametrize(
    ("has_gpu", "variable", "expected"),
    [
        (True, None, ["expandable_segments:True"]),
        (False, None, []),
        (True, "PYTORCH_ALLOC_CONF", []),
        (True, "PYTORCH_CUDA_ALLOC_CONF", []),
    ],
)
def test_segments_grow_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, variable: str | None, expected: list[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr("inhouse.common.devices.sys.platform", "linux")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)  # which every torch of ours has
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "max_split_size_mb:512")
    grow_gpu_segments()
    assert told == expected
