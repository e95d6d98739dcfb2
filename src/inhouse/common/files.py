"""Files that are whole or absent, their digests, and a lock that keeps a second process out of a folder."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def digest(path: Path) -> str:
    """`sha256:…` of a file's bytes, read in blocks: a file of any size takes one block of memory."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def digests(folder: Path) -> dict[str, str]:
    """The digest of every file below `folder`, by its path relative to it, in sorted order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest(path) for path in files}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that `path` is the old content or the new, whatever happens in between, a power cut included."""
    # a file's name that is not UTF-8 has half surrogate pairs, for which JSON has the very escapes that Python writes
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that nobody changes any more a second name; across file systems, or where links are not, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        sync_file(target)


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: until then a rename may be lost in a power cut."""
    sync_file(folder)


def read_json(path: Path) -> Any:
    """The parsed file. Raises `ValueError` naming the file and line where it is not JSON."""
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid JSON (not UTF-8 at byte {error.start})") from error
    except RecursionError as error:
        raise ValueError(f"{path}: JSON that is nested too deeply") from error


def json_object(data: str | bytes, where: str) -> dict[str, Any]:
    """The object in a line or a file of somebody's. Raises `ValueError` with a sentence that begins with `where`."""
    try:
        value = json.loads(data if isinstance(data, str) else data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 (byte {error.start} of it)") from error
    except RecursionError as error:
        raise ValueError(f"{where}: JSON that is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{where}: not valid JSON ({error}); is the file whole?") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where}: not a JSON object, but {type(value).__name__}")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically, indented, one final newline; NaN is refused, because other readers refuse it."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep every other process out of `folder` (made where missing) while the block runs.

    The lock is the kernel's, on `folder/.lock`: it goes when its process does, however that ends.
    Raises `ValueError` naming the folder and the other process where one holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(32).strip() or "unknown"
            raise ValueError(
                f"{folder}: another run (process {holder}) is writing this folder; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)
