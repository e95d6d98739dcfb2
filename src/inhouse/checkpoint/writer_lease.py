"""A token that only the newest writer of a folder holds, against a process that was taken for dead and was not.

A node that hung, or that the network lost, may wake up and write beside its successor; a lock would have been its own
all the time, or nobody's. Tokens only grow, so it can see that it was replaced (Kleppmann, "How to do distributed
locking", 2016).
"""

import os
import re
import socket
from pathlib import Path

from inhouse.common.errors import Refusal
from inhouse.common.files import sync_folder

_NAME = re.compile(r"\.writer-(\d{8})")


class WriterLease:
    """The right to publish in `folder`, taken away from whoever held it before."""

    def __init__(self, folder: Path) -> None:
        """Take the next token. Raises `OSError` where the folder cannot be written."""
        self.folder = folder
        self.token = self._take()
        while self.token < self._newest():  # others start too, and clear away the tokens before theirs
            self.token = self._take()
        sync_folder(folder)
        for path in folder.iterdir():
            if (match := _NAME.fullmatch(path.name)) and int(match[1]) < self.token:
                path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise `Refusal`, naming the successor, where another writer has taken a newer token."""
        newest = self._newest()
        if newest > self.token:
            successor = self._path(newest).read_text() or "a process that is just starting"
            raise Refusal(
                f"{self.folder}: {successor} has taken over this run, so this process publishes no checkpoint any "
                f"more; stop one of the two"
            )

    def _take(self) -> int:
        """The next token, or 0 where another writer was faster."""
        token = self._newest() + 1
        try:
            with self._path(token).open("x") as file:  # fails where it exists, on network file systems too
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
        except FileExistsError:
            return 0
        return token

    def _newest(self) -> int:
        tokens = [int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return max(tokens, default=0)

    def _path(self, token: int) -> Path:
        return self.folder / f".writer-{token:08d}"
