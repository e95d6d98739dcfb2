"""A real PostgreSQL for tests: a cluster of its own in a folder of its own, reached by a socket, gone when they are."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

_SYSTEM = "/usr/lib/postgresql/*/bin"  # where Debian has it
_START_SECONDS = 120.0  # on a busy machine
# the data need not outlive the test: nothing waits for the disk
_SETTINGS = {"listen_addresses": "", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
             "shared_buffers": "32MB", "max_connections": "100", "autovacuum": "off"}  # fmt: skip


def find_binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, the newest version's; None where this machine has none."""
    system = sorted(Path("/").glob(_SYSTEM[1:]), key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    folders = [*([Path(on_path).resolve().parent] if on_path else []), *reversed(system)]
    return next((folder for folder in folders if (folder / "postgres").is_file()), None)


@contextmanager
def running_postgres(binaries: Path, settings: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a server that runs for as long as the block: postgresql://… of a user that may do anything."""
    user = _somebody() if os.getuid() == 0 else None  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="inhouse-postgres-") as name:
        folder = Path(name)
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "inhouse", "-A", "trust", "-E", "UTF8", "--locale", "C",
             "--no-sync"], check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        settings = _SETTINGS | (settings or {})
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-k", folder, *options], stdout=log, stderr=log, user=user,
                cwd=folder, preexec_fn=_end_with_parent,
            )  # fmt: skip
        try:
            _wait_until_ready(server, data / "postmaster.pid", folder / "log")
            yield f"postgresql://inhouse@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGQUIT)
            server.wait()


_schemas = count(1)


def fresh_schema(server: str) -> str:
    """The address of an empty part of that server, which shares nothing with any other."""
    name = f"test_{os.getpid()}_{next(_schemas)}"
    return f"{server}&search_path={name}"


def _somebody() -> str:
    """The user that PostgreSQL's package made, else the one without rights."""
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _wait_until_ready(server: "subprocess.Popen[bytes]", state: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not (state.is_file() and state.read_text().rstrip().endswith("ready")):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')}")
        time.sleep(0.02)


def _end_with_parent() -> None:
    """Tests that are killed leave no server behind: the kernel ends it (Linux)."""
    if hasattr(signal, "SIGQUIT") and os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG
