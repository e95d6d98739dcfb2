"""Where there are no products of 8-bit floats, a run says so before its first step."""

import pytest
import torch
from tests.tiny_models import batch_of, tiny_model, train

from inhouse.model.fp8 import hardware
from inhouse.model.fp8.hardware import check_hardware
from inhouse.train.settings import TrainSettings


@pytest.mark.parametrize(
    ("capability", "has_experts", "sentence"),
    [
        ((8, 0), False, "capability 8.9 or more, and this one has 8.0; set precision = bf16, or fp8_reference"),
        ((8, 9), True, "capability 9.0, as an H100 has, to multiply experts, and this one has 8.9"),
        ((10, 0), True, "and this one has 10.0"),
        (None, False, "and the cpu has none"),
        ((8, 9), False, None),
        ((9, 0), True, None),
        ((10, 0), False, None),
    ],
)
def test_other_gpus_are_refused(monkeypatch, capability, has_experts: bool, sentence: str | None) -> None:
    monkeypatch.setattr(hardware, "_capability", lambda device: capability)
    if sentence is None:
        check_hardware(torch.device("cuda"), has_experts)
        return
    with pytest.raises(ValueError, match=sentence):
        check_hardware(torch.device("cuda" if capability else "cpu"), has_experts)


def test_a_run_on_a_cpu_is_refused_before_its_first_step(tmp_path) -> None:
    settings = TrainSettings(batch_tokens=128, precision="fp8", device="cpu")
    with pytest.raises(ValueError, match="precision = fp8 needs an NVIDIA GPU"):
        train(tiny_model(), batch_of, 2, settings, tmp_path, name="test", run_identity={})
