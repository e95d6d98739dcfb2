"""What an odd file is, and what makes them: whole files first, damage by cutting them and flipping bytes."""

import io
import json
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

NOISE = random.Random(0).randbytes(5000)  # what no compressor makes smaller


@dataclass
class Odd:
    """One case. `files` by name, or `make` for what bytes alone are not; `skipped` names what, of each kind."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    reason: str = ""  # part of what is said of the first that was skipped
    encodings: dict[str, int] = field(default_factory=dict)
    excluded: int = 0
    empty: int = 0
    make: Callable[[Path], None] | None = None

    def write(self, folder: Path) -> None:
        folder.mkdir()
        for name, data in self.files.items():
            path = Path(os.fsdecode(os.fsencode(folder / name)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if self.make is not None:
            self.make(folder)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def parquet(columns: dict[str, object], **options: object) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def lines(*values: object) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0xFF
    return bytes(changed)


def warc(*records: tuple[str, str, bytes]) -> bytes:
    """Records of (type, further headers, content)."""
    made = []
    for kind, headers, content in records:
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.example/\r\n{headers}"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        made.append(head.encode() + content + b"\r\n\r\n")
    return b"".join(made)


def answer(
    content: bytes, kind: str = "text/html", status: str = "200 OK", headers: str = ""
) -> tuple[str, str, bytes]:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}\r\n".encode()
    return "response", "Content-Type: application/http; msgtype=response\r\n", head + content
