"""What the gateway's benchmarks start: the provider that keeps its own bill, the gateway before it, PostgreSQL."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from http_load import Client

HERE = Path(__file__).parent
_PATIENCE = 120.0  # seconds, on a busy machine
_KEY = re.compile(r"the administrator's key.*: (\S+)")
_CONFIG = """
currency = "USD"
default = "bill-1"
store = "{store}"

[server]
port = {port}
{server}

[[provider]]
name = "chat"
dialect = "openai"
url = "http://127.0.0.1:{provider}/v1"

[[provider.model]]
name = "bill-1"
context = 100_000
max_output = 4096
price = [{{ currency = "USD", input = 2.0, output = 8.0 }}]

[[provider]]
name = "messages"
dialect = "anthropic"
url = "http://127.0.0.1:{provider}/v1"

[[provider.model]]
name = "bill-2"
context = 100_000
max_output = 4096
price = [{{ currency = "USD", input = 2.0, output = 8.0 }}]

{rest}
"""


class Billing(NamedTuple):
    """The provider: its port, its process, and the file of its bill (`billing_provider`)."""

    port: int
    pid: int
    bill: Path


@contextmanager
def billing(folder: Path) -> Iterator[Billing]:
    """`billing_provider` in a process of its own."""
    bill = folder / "bill.jsonl"
    command = [sys.executable, str(HERE / "billing_provider.py"), "--bill", str(bill)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Billing(int(process.stdout.readline()), process.pid, bill)
    finally:
        process.terminate()
        process.wait()


class GatewayProcess:
    """`inhouse gateway serve` over a folder of its own, before one provider: started, killed, started again."""

    def __init__(
        self, folder: Path, provider: int, store: str = "gateway.sqlite", rest: str = "", server: str = ""
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.port, self.key, self._log = free_port(), "", folder / "gateway.log"
        self.file = folder / "gateway.toml"
        self.file.write_text(
            _CONFIG.format(store=store, port=self.port, provider=provider, rest=rest, server=server),
            encoding="utf-8",
        )
        self.start()

    def start(self) -> float:
        """Returns when it answers, with the seconds that took."""
        begun = time.monotonic()
        with self._log.open("ab") as log:
            at = log.tell()
            command = [sys.executable, "-m", "inhouse", "gateway", "serve", str(self.file)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while "the gateway is at" not in (said := self._log.read_bytes()[at:].decode(errors="replace")):
            assert self.process.poll() is None and time.monotonic() - begun < _PATIENCE, f"no start: {said}"
            time.sleep(0.02)
        if found := _KEY.search(said):
            self.key = found[1]
        return time.monotonic() - begun

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self, path: str = "/v1/chat/completions") -> Client:
        """With the administrator's key."""
        return Client(self.port, path, {"authorization": f"Bearer {self.key}"})

    def kill(self) -> None:
        """As if the machine had lost it."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(_PATIENCE)

    def run(self, *arguments: str) -> str:
        """What a verb of `inhouse gateway` prints."""
        command = [sys.executable, "-m", "inhouse", "gateway", *arguments, "--config", str(self.file)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until the process listens there."""
    end = time.monotonic() + _PATIENCE
    while True:
        assert process.poll() is None and time.monotonic() < end, f"no start: {log.read_text(errors='replace')[-3000:]}"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process and of the children that it has now, to the nanosecond as the scheduler counts."""
    return sum(int(each.read_text().split()[0]) for one in [pid, *_children(pid)] for each in _threads(one)) / 1e9


def _threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/schedstat"))


def resident(pid: int) -> float:
    """Megabytes that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _children(pid: int) -> list[int]:
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for each in found for below in _children(each)]
