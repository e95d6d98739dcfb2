"""Which GPUs multiply 8-bit floats."""

import torch


def check_hardware(device: torch.device, has_experts: bool) -> None:
    """Raise `ValueError` where torch has no such products for `device`: those of experts are for Hopper alone."""
    found = _capability(device)
    if has_experts:
        is_fit, needed = found is not None and found[0] == 9, "9.0, as an H100 has, to multiply experts"
    else:
        is_fit, needed = found is not None and found >= (8, 9), "8.9 or more"
    if not is_fit:
        has = f"the {device.type} has none" if found is None else f"this one has {found[0]}.{found[1]}"
        raise ValueError(
            f"precision = fp8 needs an NVIDIA GPU of compute capability {needed}, and {has}; set precision = bf16, or "
            f"fp8_reference, which rounds alike and is slow"
        )


def _capability(device: torch.device) -> tuple[int, int] | None:
    """None where it is no NVIDIA GPU."""
    if device.type != "cuda" or torch.version.hip is not None:
        return None
    return torch.cuda.get_device_capability(device)
