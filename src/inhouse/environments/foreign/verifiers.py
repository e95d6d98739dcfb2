"""Environments written for the library `verifiers` (Brown 2025): `verifiers:PACKAGE@FOLDER`.

FOLDER is a virtual environment that has both, and nothing of inhouse: its Python serves the environment's problems and
its rubric on loopback (`verifiers_program.py`). The server is started with the first problem that is drawn, started
again where it has died, so many times, and ends with this process. Processes that this one starts find it by a variable
of theirs. Environments of one turn alone; a fifth of the problems is held out.
"""

import json
import os
import secrets
import select
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Lock
from typing import Any

from inhouse.data.documents import Split
from inhouse.environments.environment import Environment, Grade, Problem

SERVERS = "INHOUSE_ENVIRONMENT_SERVERS"  # a variable: what is served for this process and those that it starts
_PROGRAM = Path(__file__).with_name("verifiers_program.py")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")  # of our variables
_LOADING_SECONDS = 120.0
_SECONDS = 4.0  # of a score: less than a verdict may take, so that a dead server is named as one
_MOST_STARTS = 4
_LONGEST_LINE = 10_000  # characters
_LARGEST_ANSWER = 1 << 30  # bytes


def verifiers(package: str, folder: Path) -> Environment:
    """Its problems' `answer` is the number of a row. Nothing is started before problems are drawn or replies scored."""
    name = f"verifiers:{package}@{folder}"

    def draw(split: Split, count: int, seed: int, data: Path | None) -> Iterator[Problem]:
        server = _server(package, folder)
        server.ensure()
        asked = {"split": split, "count": count, "seed": seed}
        for number, prompt in server.request("/problems", asked, _LOADING_SECONDS):
            yield Problem(prompt, "", str(number))

    def score(problem: Problem, reply: str) -> Grade:
        asked = {"number": int(problem.answer or 0), "reply": reply}
        return Grade(_server(package, folder).request("/score", asked, _SECONDS)["score"], True)

    return Environment(name, draw, score)


class _Server:
    """Raises `ValueError` where it cannot be started, `ConnectionError` where it does not answer."""

    def __init__(self, package: str, folder: Path) -> None:
        self.name, self._package, self._python = f"verifiers:{package}@{folder}", package, folder / "bin" / "python"
        self._process: subprocess.Popen[str] | None = None
        self._num_starts = 0
        self._lock = Lock()
        self._port, self._token = _served().get(self.name, (0, ""))
        self._is_ours = not self._token

    def ensure(self) -> None:
        """Started, where that is ours to do: the same port again, which other processes know."""
        with self._lock:
            if self._is_ours and (self._process is None or self._process.poll() is not None):
                self._start()

    def request(self, path: str, asked: dict[str, Any], seconds: float) -> Any:
        if self._num_starts == 0:
            self.ensure()
        connection = HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(asked), headers)
            answer = json.loads(connection.getresponse().read(_LARGEST_ANSWER))
        except (OSError, HTTPException, ValueError) as error:
            raise ConnectionError(f"the server of {self.name} does not answer: {error}") from None
        finally:
            connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _start(self) -> None:
        if self._num_starts == _MOST_STARTS:
            raise ValueError(f"the server of {self.name} has ended {_MOST_STARTS} times; it is not started again")
        if not self._python.is_file():
            raise ValueError(f"{self.name}: there is no {self._python}; {self._python.parents[1]} is to be a virtual "
                             f"environment with verifiers and {self._package}")  # fmt: skip
        self._num_starts += 1
        self._token = self._token or secrets.token_hex(16)
        # -P: what lies beside the program is not to be imported for what the package means
        self._process = subprocess.Popen(
            [self._python, "-P", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={key: value for key, value in os.environ.items() if key in _KEPT}, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        asked = {"package": self._package, "port": self._port, "token": self._token}
        with suppress(BrokenPipeError):  # it has ended already, as its first line says
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        said = self._first_line()
        if "port" not in said:
            self._process.kill()
            self._process.wait()
            raise ValueError(f"{self.name} cannot be served: {said.get('error', 'its process ended as it began')}")
        self._port = said["port"]
        os.environ[SERVERS] = json.dumps(_served() | {self.name: (self._port, self._token)})

    def _first_line(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _LOADING_SECONDS)[0]:
            return {"error": f"it was not loaded after {_LOADING_SECONDS:g} s"}
        line = self._process.stdout.readline(_LONGEST_LINE)
        try:
            said = json.loads(line) if line else {}
        except ValueError:
            said = None
        return said if isinstance(said, dict) else {"error": f"it said {line[:100]!r}"}


@cache
def _server(package: str, folder: Path) -> _Server:
    return _Server(package, folder)


def _served() -> dict[str, Any]:
    return json.loads(os.environ.get(SERVERS, "{}"))
