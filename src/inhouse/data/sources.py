"""Which files a source names, in an order that is the same everywhere."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from inhouse.data.settings import STDLIB, Source

# Tests, and what a site added; `encodings` is near-identical code tables that make a held-out score look too good.
STDLIB_EXCLUDED = ("test", "tests", "idlelib", "encodings", "site-packages", "__pycache__")

Reason = Literal["undecodable", "binary", "unreadable", "malformed", "oversized"]
MAX_NAMES = 1000


class InputFile(NamedTuple):
    """A file to read, and its path relative to the source (what documents and reports call it)."""

    path: Path
    name: str
    size: int


@dataclass
class Findings:
    """What was met while reading: files and bytes read, and whatever did not become a document.

    `skipped` counts by reason and names the first `MAX_NAMES`: not UTF-8 (undecodable), with zero bytes (binary), not
    to be opened or cut short (unreadable), records without text (malformed), records over the limit (oversized).
    """

    files: int = 0
    bytes: int = 0
    empty: int = 0
    excluded: int = 0
    skipped: dict[Reason, int] = field(default_factory=dict)
    names: dict[Reason, list[str]] = field(default_factory=dict)

    def skip(self, reason: Reason, name: str) -> None:
        self._skip(reason, 1, [name])

    def add(self, other: "Findings") -> None:
        self.files += other.files
        self.bytes += other.bytes
        self.empty += other.empty
        self.excluded += other.excluded
        for reason, count in other.skipped.items():
            self._skip(reason, count, other.names[reason])

    def _skip(self, reason: Reason, count: int, names: list[str]) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + count
        kept = self.names.setdefault(reason, [])
        kept += names[: MAX_NAMES - len(kept)]

    def summary(self) -> str:
        """One line for an error: what there was instead of text."""
        parts = [f"{self.files} files read", f"{self.empty} empty", f"{self.excluded} excluded"]
        return ", ".join(parts + [f"{count} {reason}" for reason, count in self.skipped.items()])


def locate(source: Source) -> Source:
    """The source with a real path. Raises `ValueError` where there is nothing at it."""
    if source.path == STDLIB:
        folder = sysconfig.get_paths()["stdlib"]
        if not Path(folder, "os.py").is_file():
            raise ValueError(f"source {source.name}: this Python keeps no standard library in {folder}; name a folder")
        include, exclude = source.include or (".py",), (*STDLIB_EXCLUDED, *source.exclude)
        return source.model_copy(update={"path": folder, "include": include, "exclude": exclude})
    path = Path(source.path).expanduser()
    if not path.exists():
        raise ValueError(f"source {source.name}: {path} does not exist; correct `path` or put the text there")
    return source.model_copy(update={"path": str(path)})


def describe(source: Source) -> str:
    """The path for the lineage; the standard library with the version of Python that it belongs to."""
    return f"{STDLIB} {sys.version.split()[0]}" if source.path == STDLIB else source.path


def input_files(source: Source, findings: Findings) -> Iterator[InputFile]:
    """The files of a located source, sorted within each folder. Links are followed, each folder entered once."""
    root = Path(source.path)
    if root.is_dir():
        yield from _walk(root, "", source, findings, set())
    else:
        yield InputFile(root, printable(root.name), root.stat().st_size)


def _walk(
    folder: Path, prefix: str, source: Source, findings: Findings, seen: set[tuple[int, int]]
) -> Iterator[InputFile]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        findings.skip("unreadable", f"{prefix} ({error.strerror})")
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        name = prefix + printable(entry.name)
        if is_excluded(name, source):
            findings.excluded += 1
        elif _is_folder(entry):
            yield from _walk(Path(entry.path), name + "/", source, findings, seen)
        elif not is_included(name, source):
            findings.excluded += 1
        elif Path(entry.path).is_file():
            yield InputFile(Path(entry.path), name, entry.stat().st_size)
        else:
            findings.skip("unreadable", f"{name} (broken link or no plain file)")


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_excluded(name: str, source: Source) -> bool:
    parts = (*PurePosixPath(name).parts, name)
    return any(fnmatchcase(part, pattern) for pattern in source.exclude for part in parts)


def is_included(name: str, source: Source) -> bool:
    return not source.include or name.endswith(source.include)


def printable(name: str) -> str:
    """A file name as text that can be written anywhere: bytes that are not UTF-8 become `\\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
