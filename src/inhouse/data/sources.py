"""Which files a source names, in an order that is the same everywhere."""

import os
import re
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import digest
from inhouse.common.lineage import STAGES, is_run
from inhouse.data.findings import BadInput, Findings
from inhouse.data.patterns import Selection
from inhouse.data.settings import STDLIB, Source

# Tests, and what a site added; `encodings` is near-identical code tables that make a held-out score look too good.
STDLIB_EXCLUDED = ("test", "tests", "idlelib", "encodings", "site-packages", "__pycache__")
# what a terminal would obey instead of show: control characters, line separators, marks of direction
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_NUMBERED = re.compile(r"(.+)[#@]\d+", re.DOTALL)


class Version(NamedTuple):
    """What shows that a file was written or replaced: its inode, size and time of change in nanoseconds."""

    inode: int
    size: int
    changed: int


class InputFile(NamedTuple):
    """A file to read, and its path relative to the source (what documents and reports call it)."""

    path: Path
    name: str
    size: int
    version: Version


def locate(source: Source) -> Source:
    """The source with a real path. Raises `ValueError` where there is nothing at it that could be read."""
    if source.path == STDLIB:
        folder = sysconfig.get_paths()["stdlib"]
        if not Path(folder, "os.py").is_file():
            raise ValueError(f"source {source.name}: this Python keeps no standard library in {folder}; name a folder")
        include, exclude = source.include or ("*.py",), (*STDLIB_EXCLUDED, *source.exclude)
        return source.model_copy(update={"path": folder, "include": include, "exclude": exclude})
    path = Path(source.path).expanduser()
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"source {source.name}: {path} does not exist; correct `path` or put the text there") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"source {source.name}: {path} cannot be opened ({reason}); correct `path`") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise ValueError(f"source {source.name}: {path} is neither a folder nor a file; name one")
    return source.model_copy(update={"path": str(path)})


def describe(source: Source) -> str:
    """The path for the lineage; the standard library with the version of Python that it belongs to."""
    return f"{STDLIB} {sys.version.split()[0]}" if source.path == STDLIB else source.path


def selection_of(source: Source) -> Selection:
    return Selection(source.include, source.exclude, source.default_excludes)


def version_of(status: os.stat_result) -> Version:
    return Version(status.st_ino, status.st_size, status.st_mtime_ns)


def content_digest(file: InputFile) -> str:
    """The digest of what reading the file gives: of its bytes, or of the reason why there are none."""
    try:
        return digest(file.path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def input_files(source: Source, findings: Findings) -> Iterator[InputFile]:
    """The files of a located source, sorted within each folder. Links are followed, each folder entered once."""
    root = Path(source.path)
    status = root.stat()
    if stat.S_ISDIR(status.st_mode):
        yield from _Walk(source, findings).files(root)
    else:
        yield InputFile(root, printable(root.name), status.st_size, version_of(status))


class _Walk:
    """One way through the folders of a source; a stack of its own, because folders nest deeper than Python calls."""

    def __init__(self, source: Source, findings: Findings) -> None:
        self.selection, self.findings = selection_of(source), findings
        self.leaves_out_others = source.default_excludes
        self.seen: set[tuple[int, int]] = set()

    def files(self, root: Path) -> Iterator[InputFile]:
        waiting = [self._entries(root, "")]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
                continue
            entry, name, status = found
            if stat.S_ISDIR(status.st_mode):
                waiting.append(self._entries(Path(entry.path), name + "/"))
            else:
                yield InputFile(Path(entry.path), name, status.st_size, version_of(status))

    def _entries(self, folder: Path, prefix: str) -> Iterator[tuple["os.DirEntry[str]", str, os.stat_result]]:
        """The entries of a folder that are to be read or entered, with their names and what they are."""
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.findings.skip(BadInput("unreadable", str(error.strerror)), prefix)
            return
        if (status.st_dev, status.st_ino) in self.seen:
            return
        self.seen.add((status.st_dev, status.st_ino))
        found = {entry.name for entry in entries}
        is_no_text = "pyvenv.cfg" in found or (not found.isdisjoint(STAGES) and is_run(folder))  # wherever runs are
        if prefix and self.leaves_out_others and is_no_text:
            self.findings.excluded += 1
            return
        names: dict[str, int] = {}
        for entry in entries:
            name = distinct(prefix + printable(entry.name), names)
            if (wanted := self._status(entry, name)) is not None:
                yield entry, name, wanted

    def _status(self, entry: "os.DirEntry[str]", name: str) -> os.stat_result | None:
        """What an entry is, or None where it is left out or cannot be read; names decide before the disk is asked."""
        if self.selection.excludes(name):
            self.findings.excluded += 1
            return None
        try:
            status = entry.stat()
        except OSError as error:  # broken or circular links, folders that may be listed and not entered
            if self.selection.may_hold_included(name):
                self.findings.skip(BadInput("unreadable", str(error.strerror)), name)
            else:
                self.findings.excluded += 1
            return None
        if stat.S_ISDIR(status.st_mode):
            is_excluded = self.selection.excludes(name + "/")
        elif stat.S_ISREG(status.st_mode):
            is_excluded = not self.selection.may_hold_included(name)
        else:
            self.findings.skip(BadInput("unreadable", "no plain file"), name)
            return None
        self.findings.excluded += is_excluded
        return None if is_excluded else status


def printable(name: str) -> str:
    """A file name as text that can be shown and written anywhere: what is not UTF-8 or not visible becomes `\\xNN`."""
    if name.isascii() and name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def distinct(name: str, taken: dict[str, int]) -> str:
    """`name`, or where another has it already `name~2`, `name~3` …; it is taken from then on, with the last number."""
    numbered = _NUMBERED.fullmatch(name)
    is_anothers = numbered is not None and numbered[1] in taken  # x.jsonl#7 is what a record of x.jsonl is called
    free, number = name, taken.get(name, 1)
    while free in taken or (is_anothers and number == 1):
        number += 1
        free = f"{name}~{number}"
    taken |= {free: 1, name: number}
    return free
