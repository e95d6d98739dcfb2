"""C++ of ours, compiled for this machine the first time that it is wanted and kept for the next."""

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")


def find_compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)


@cache
def load(source: Path) -> ctypes.CDLL | None:
    """The library made from `source`. None, and a warning, where it cannot be made: there is another, slower way."""
    compiler = find_compiler()
    if compiler is None:
        log.warning("no C++ compiler (g++, clang++ or c++) was found; without one generation is slower")
        return None
    text = b"".join(path.read_bytes() for path in _with_included(source))
    identity = hashlib.blake2b(text + f"{compiler} {_FLAGS} {_cpu()}".encode(), digest_size=12).hexdigest()
    why: object = None
    for folder in _folders():
        library = folder / f"{source.stem}-{identity}.so"
        try:
            if not library.exists():
                _make(compiler, source, library)
            return ctypes.CDLL(str(library))
        except (OSError, subprocess.SubprocessError) as error:  # read-only, full, or nothing there may be executed
            why = getattr(error, "stderr", None) or error
    log.warning("%s cannot be compiled and loaded, without it generation is slower: %.500s", source.name, why)
    return None


def _with_included(source: Path) -> list[Path]:
    """The file, and what it includes of its neighbours."""
    included = [source]
    for path in included:
        names = re.findall(r'^#include "(.+)"', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        included += [near for name in names if (near := (path.parent / name).resolve()) not in included]
    return included


def _make(compiler: str, source: Path, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, *_FLAGS, str(source), "-o", str(made)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        made.replace(library)  # at once: others may be making the same


def _cpu() -> str:
    """What -march=native depends on: a home folder may be shared by machines of several kinds."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.processor()


def _folders() -> Iterator[Path]:
    """Where libraries are kept: where nobody else can write; if there is no such place, one for this process."""
    with suppress(OSError, RuntimeError):  # a home that cannot be written to, or none
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inhouse" / "native"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield folder
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="inhouse-native-") as name:
        yield Path(name)  # what is loaded needs its file no longer
