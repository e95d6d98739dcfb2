"""Which text, which code, which machine: the facts about a run that its settings do not say."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from inhouse.common.code import source_digest
from inhouse.common.files import digest
from inhouse.common.lineage import Record
from inhouse.common.progress import Progress
from inhouse.data.settings import Source
from inhouse.data.sources import Findings, InputFile, input_files, resolve


def source_digests(sources: Sequence[Source], known: Record) -> tuple[dict[str, str], dict[str, str]]:
    """Of each source, by name: the digest of its listing (names, sizes, times) and the digest of its content.

    Where the listing is still the one in the record `known`, the content is not read again.
    """
    listings, contents = {}, {}
    for source in sources:
        listing = _digest_lines(f"{file.name} {file.size} {file.path.stat().st_mtime_ns}" for file in _files(source))
        listings[source.name] = listing
        if known.get("listings", {}).get(source.name) == listing:
            contents[source.name] = known["inputs"][source.name]
        else:
            contents[source.name] = _digest_content(source)
    return listings, contents


def _files(source: Source) -> Iterator[InputFile]:
    return input_files(resolve(source), Findings())


def _digest_content(source: Source) -> str:
    with Progress(f"digest of {source.name}", None, "files") as progress:

        def line(file: InputFile) -> str:
            progress.update()
            return f"{file.name} {digest(file.path)}"

        return _digest_lines(map(line, _files(source)))


def _digest_lines(lines: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for line in lines:
        sha.update(f"{line}\n".encode())
    return f"sha256:{sha.hexdigest()}"


@cache
def code_facts() -> dict[str, Any]:
    """Which code runs: package version, digest of its source and, in a checkout, the commit."""
    package = Path(__file__).parents[1]
    facts: dict[str, Any] = {"version": metadata.version("inhouse"), "source": source_digest()}
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

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
