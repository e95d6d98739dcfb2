"""GGUF files as llama.cpp's own quantizer writes them, from an F32 file of ours.

It runs in a process of its own (`python -m inhouse.export.quantize SOURCE TARGET TYPE`): what it finds wrong it prints,
where it meets what it did not expect it aborts its process, and Ctrl-C does not wait for it.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from inhouse.common.files import sync_file, sync_folder
from inhouse.export.settings import QuantizedType

INSTALL = "pip install 'inhouse[quantize]'"
_FILE_TYPES: dict[QuantizedType, int] = {"Q6_K": 18, "Q4_K_M": 15}  # enum llama_ftype, llama.h


def is_installed() -> bool:
    """Whether llama.cpp's quantizer is here; it is not loaded."""
    return find_spec("llama_cpp") is not None


def quantize(source: Path, target: Path, weights: QuantizedType) -> None:
    """Write the F32 file `source` to `target` with its matrices as `weights`; the file is whole or not there.

    A type of 256 numbers a block (all of them) is kept for rows of whole blocks only: for others llama.cpp takes
    Q8_0, Q5_0 or F16, so what a file holds is to be read from it.
    Raises `ValueError` with llama.cpp's reason where it could not, `OSError` where the disk is full.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    command = [sys.executable, "-m", "inhouse.export.quantize", str(source), str(partial), weights]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode:
            if shutil.disk_usage(target.parent).free < 1 << 20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            raise ValueError(f"{target}: llama.cpp's quantizer could not write it: {_reason(done)}")
        sync_file(partial)
        partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink()
    sync_folder(target.parent)


def _reason(done: "subprocess.CompletedProcess[bytes]") -> str:
    """The last line that it printed, without the name of llama.cpp's function, and the signal that ended it."""
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    said = lines[-1].removeprefix("llama_model_quantize: ").strip() if lines else f"exit status {done.returncode}"
    killed = f"{signal.Signals(-done.returncode).name} ended it" if done.returncode < 0 else ""
    return "; ".join(part for part in (killed, said if lines or not killed else "") if part)


def _main() -> int:
    import llama_cpp

    source, target, weights = sys.argv[1:]
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = _FILE_TYPES[weights]  # type: ignore[index]
    return int(llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), params))


if __name__ == "__main__":
    sys.exit(_main())
