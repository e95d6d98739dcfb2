"""Which code, which machine: the facts about a run that its settings do not say."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from inhouse.common.lineage import code_digest


@cache
def code_facts() -> dict[str, Any]:
    """Which code runs: package version, digest of its source and, in a checkout, the commit."""
    package = Path(__file__).parents[1]
    facts: dict[str, Any] = {"version": metadata.version("inhouse"), "source": code_digest()}
    if (package.parents[1] / ".git").exists():
        facts["commit"] = _git(package, "rev-parse", "HEAD")
        facts["modified"] = bool(_git(package, "status", "--porcelain", "--", str(package)))
    return facts


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def host_facts() -> dict[str, Any]:
    """The machine: processor, cores, memory, GPUs, and the versions that figures depend on. No host or user name."""
    import torch  # here, because reading a lineage must not cost its import

    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
