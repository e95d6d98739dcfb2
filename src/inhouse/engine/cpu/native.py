"""C++ of ours, compiled for this machine the first time that it is wanted and kept for the next."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
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
    text = source.read_bytes()
    identity = hashlib.blake2b(text + f"{compiler} {_FLAGS} {_cpu()}".encode(), digest_size=12).hexdigest()
    library = _folder() / f"{source.stem}-{identity}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder) / library.name
            done = subprocess.run([compiler, *_FLAGS, source, "-o", made], capture_output=True, text=True)
            if done.returncode:
                log.warning("%s did not compile, without it generation is slower: %s", source.name, done.stderr[:500])
                return None
            made.replace(library)  # at once: others may be making the same
    return ctypes.CDLL(str(library))


def _cpu() -> str:
    """What -march=native depends on: a home folder may be shared by machines of several kinds."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "") + platform.processor()


@cache
def _folder() -> Path:
    """Where libraries are kept: a folder that nobody else can write into."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inhouse" / "native"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return folder
    except OSError:
        pass  # a home that cannot be written to
    return Path(tempfile.mkdtemp(prefix="inhouse-native-"))
