"""An append-only log of votes: what was stored is there after any crash, and nobody changes it unseen.

Where the log ends is said by its head, a signed file of count, bytes and last mac, which belongs where whoever can
write the log cannot write: a cut tail is seen by it alone. An append writes the lines, waits for the disk, then writes
the head. A crash in between leaves genuine lines that the head does not count yet, which are kept, or a piece of one,
which nobody was told is stored and is cut off.
"""

import difflib
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from inhouse.arena.battles import KINDS
from inhouse.arena.log_format import FIRST, Body, Head, canonical, entry_of, mac, read_head, write_head
from inhouse.arena.tampering import check_log
from inhouse.common.files import sync_folder

FIELDS = ("left", "right", "winner", "voter", "voter_kind")
MORE_FIELDS = ("category", "probability", "prompt", "left_text", "right_text", "orders", "battle")


class VoteLog:
    """`VoteLog(log, head, key).append(vote)`: stored when it returns. Several processes may append to one log."""

    def __init__(self, path: Path, head: Path, key: bytes) -> None:
        """Open or begin a log. Raises `ValueError` where what is there is not whole."""
        self.path, self.head_path, self._key = path, head, key
        self.models: set[str] = set()
        self._head = Head(0, 0, FIRST)
        path.parent.mkdir(parents=True, exist_ok=True)
        head.parent.mkdir(parents=True, exist_ok=True)
        with self._locked() as file:
            if not os.fstat(file.fileno()).st_size and not head.is_file():
                write_head(head, key, self._head)  # before any entry, so that a log without a head is never right
            check_log(path, head, key).refuse()
            self._catch_up(file)

    def join(self, models: Sequence[str]) -> None:
        """Put models on the board, those that are not yet; they never leave it."""
        with self._locked() as file:
            self._catch_up(file)
            self._write(file, [("model", {"model": name}) for name in dict.fromkeys(models) if name not in self.models])

    def append(self, votes: Sequence[Body]) -> None:
        """Store votes (a crash keeps the first). Raises `ValueError`, and stores none, where one cannot be counted."""
        with self._locked() as file:
            self._catch_up(file)
            for vote in votes:
                check_vote(vote, self.models)
            self._write(file, [("vote", vote) for vote in votes])

    @contextmanager
    def _locked(self) -> Iterator[BinaryIO]:
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the kernel's: it goes with the process
            yield file

    def _catch_up(self, file: BinaryIO) -> None:
        """Take in what others wrote since, finish or undo what a crash left. Raises `ValueError` on anything else."""
        stated = read_head(self.head_path, self._key) or Head(0, 0, FIRST)
        size, expected = os.fstat(file.fileno()).st_size, max(stated, self._head)
        if size < expected.bytes:
            raise ValueError(f"{self.path}: {size:,} bytes where {expected.count:,} entries were stored in "
                             f"{expected.bytes:,}; nothing was written")  # fmt: skip
        file.seek(self._head.bytes)
        *lines, rest = file.read().split(b"\n")
        for line in lines:
            entry = entry_of(line, self._key)
            if entry is None or (entry.number, entry.previous) != (self._head.count + 1, self._head.mac):
                raise ValueError(f"{self.path}: entry {self._head.count + 1} is not what it was; nothing was written "
                                 "(inhouse arena board names what was changed)")  # fmt: skip
            if entry.kind == "model":
                self.models.add(entry.body["model"])
            self._head = Head(entry.number, self._head.bytes + len(line) + 1, entry.mac)
        if rest:
            file.truncate(self._head.bytes)
        if self._head != stated:
            os.fsync(file.fileno())
            write_head(self.head_path, self._key, self._head)

    def _write(self, file: BinaryIO, bodies: Sequence[tuple[str, Body]]) -> None:
        if not bodies:
            return
        written, head = b"", self._head
        for kind, body in bodies:
            entry: Body = {"number": head.count + 1, "previous": head.mac, "kind": kind, "body": body}
            entry["mac"] = mac(self._key, entry)
            line = canonical(entry) + b"\n"
            written, head = written + line, Head(head.count + 1, head.bytes + len(line), entry["mac"])
        try:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):  # a full disk: the next append does it else
                file.truncate(self._head.bytes)
            raise
        sync_folder(self.path.parent)
        write_head(self.head_path, self._key, head)
        self._head = head
        self.models.update(body["model"] for kind, body in bodies if kind == "model")


def check_vote(vote: Body, models: set[str]) -> None:
    """Raises `ValueError` with a sentence where a vote cannot be counted."""
    if missing := [name for name in FIELDS if not vote.get(name)]:
        raise ValueError(f"a vote without {missing[0]}; it wants {', '.join(FIELDS)}")
    if unknown := [name for name in vote if name not in FIELDS + MORE_FIELDS]:
        raise ValueError(f"a vote has no field {unknown[0]!r}; it may have {', '.join(MORE_FIELDS)}")
    for side in ("left", "right"):
        if (name := vote[side]) not in models:
            near = difflib.get_close_matches(str(name), sorted(models), 1)
            nearest = f"; nearest: {near[0]}" if near else ""
            raise ValueError(f"a vote on {name!r}, which is none of the board's {len(models)} models{nearest}")
    if vote["left"] == vote["right"]:
        raise ValueError(f"{vote['left']} battles itself")
    if vote["winner"] not in ("left", "right", "tie"):
        raise ValueError(f"winner is {vote['winner']!r}, not left, right or tie")
    if vote["voter_kind"] not in KINDS[:2]:
        raise ValueError(f"voter_kind is {vote['voter_kind']!r}, not people or judges")
