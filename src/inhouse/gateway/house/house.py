"""A model of one's own behind `inhouse serve` on loopback: started, watched, started again, ended with the gateway."""

import asyncio
import logging
import os
import re
import secrets
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic

from pydantic import SecretStr

from inhouse.gateway.failover.pool import Pool
from inhouse.gateway.settings import ProviderSettings
from inhouse.gateway.store.secret import VARIABLE as SECRET_VARIABLE
from inhouse.providers.dialects import dialect
from inhouse.providers.endpoint import Endpoint

log = logging.getLogger(__name__)

HOST, CONNECTIONS = "127.0.0.1", 512
KEY_VARIABLE = "INHOUSE_GATEWAY_CHILD_KEY"
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before a start anew; doubled while it does not last
LASTED = 60.0  # seconds: who was up so long begins with the first wait again
_CHECK_EVERY, _HEALTH_SECONDS, _MISSES = 10.0, 20.0, 3  # of a process that hangs; a busy one answers late
_READY_EVERY, _READY_SECONDS, _STOP_SECONDS = 0.1, 60.0, 15.0
_LONGEST_LINE = 65_536
_SERVED = re.compile(r"is served at http://\S+:(\d+)/v1;")
COMMAND = (sys.executable, "-m", "inhouse.gateway.house.child", "serve")


@asynccontextmanager
async def houses(
    providers: Iterable[ProviderSettings],
    pool: Pool,
    may_open: Callable[[str], bool] = lambda name: True,
    command: Sequence[str] = COMMAND,
) -> AsyncIterator[dict[str, "House"]]:
    """All models of one's own among the providers, by provider; each is open in the pool while it is well and it
    `may_open`: a provider that was cut may not."""
    known = tuple(providers)
    hidden = {SECRET_VARIABLE, "PGPASSWORD", *(each.key_env for each in known if each.key_env)}
    async with AsyncExitStack() as stack:
        found: dict[str, House] = {}
        for provider in known:
            if provider.is_inhouse:
                found[provider.name] = house = House(provider, pool, hidden, command, may_open)
                stack.push_async_callback(house.stop)
                house.start()
        yield found


class House:
    """One of them: it has traffic while it is well, and is started again when it ends or hangs.

    Its key is made anew for each process and known to the two alone; of the gateway's environment it sees nothing that
    is `hidden`. `wait(failures)`: seconds before the next start.
    """

    def __init__(
        self,
        provider: ProviderSettings,
        pool: Pool,
        hidden: Iterable[str] = (),
        command: Sequence[str] = COMMAND,
        may_open: Callable[[str], bool] = lambda name: True,
        wait: Callable[[int], float] = lambda failures: min(FIRST_WAIT * 2**failures, LONGEST_WAIT),
    ) -> None:
        assert provider.run is not None and provider.model, "checked where the configuration was read"
        self.name, self.starts = provider.name, 0
        self._provider, self._pool, self._command, self._wait = provider, pool, command, wait
        self._environment = {name: value for name, value in os.environ.items() if name not in {*hidden}}
        self._may_open = may_open
        self._at: tuple[int, str] | None = None  # its port and its key, while it is well
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it up."""
        self._task = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """End its process, after the requests that are under way, and start none any more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def endpoint(self) -> Endpoint:
        """A new one, open. Raises `ValueError` where it is not up."""
        if self._at is None:
            raise ValueError(f"{self.name} is not up")
        port, key = self._at
        adapter = dialect(self._provider.dialect)
        made = Endpoint(f"http://{HOST}:{port}/v1", adapter, SecretStr(key), self._provider.limits, CONNECTIONS)
        return await made.__aenter__()

    async def _keep_up(self) -> None:
        failures = 0
        while True:
            began = monotonic()
            try:
                said = await self._once()
            except OSError as error:
                said = f"it cannot be started ({error})"
            finally:
                self._at = None
                await self._pool.close(self.name)
            failures = 0 if monotonic() - began > LASTED else failures
            seconds = self._wait(failures)
            failures += 1
            log.warning("%s: %s; it is started again in %g s", self.name, said, seconds)
            await asyncio.sleep(seconds)

    async def _once(self) -> str:
        """One process from its start to its end: how it ended, in words."""
        key = secrets.token_urlsafe(32)
        async with self._process(key) as (process, words):
            port = await _port(process, words)
            if port is None:
                return f"it did not start{_last(words.lines)}"
            if not await _is_ready(process, port):
                return f"it was not well{_last(words.lines)}"
            words.lines.clear()
            self._at = port, key
            if self._may_open(self.name):
                self._pool.open(self.name, await self.endpoint())
            print(f"{self.name} is up", file=sys.stderr, flush=True)
            if await _hangs(process, port):
                return "it hung"
            return f"it ended with status {process.returncode}{_last(words.lines)}"

    @asynccontextmanager
    async def _process(self, key: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, "_Words"]]:
        """It and what it says, ended on the way out."""
        self.starts += 1
        model = self._provider.model[0]
        process = await asyncio.create_subprocess_exec(
            *self._command, str(self._provider.run), "--host", HOST, "--port", "0", "--name",
            model.upstream or model.name, "--api-key-env", KEY_VARIABLE,
            env=self._environment | {KEY_VARIABLE: key}, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the gateway alone, which then ends it in order
        )  # fmt: skip
        words = _Words()
        assert process.stderr is not None
        listening = asyncio.create_task(words.listen(process.stderr))
        try:
            yield process, words
        finally:
            await _end(process)
            listening.cancel()


class _Words:
    """What a process says: its last lines, and where it serves once it says that."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=20)
        self.port: int | None = None

    async def listen(self, stream: asyncio.StreamReader) -> None:
        """Until it ends; lines of any length, or the process would wait for somebody to read on."""
        rest = b""
        while chunk := await stream.read(4096):
            *whole, rest = (rest + chunk)[-_LONGEST_LINE:].split(b"\n")
            for line in whole:
                self.lines.append(line.decode("utf-8", "replace").strip()[:300])
                if match := _SERVED.search(self.lines[-1]):
                    self.port = int(match[1])


async def _port(process: asyncio.subprocess.Process, words: _Words) -> int | None:
    """Where it listens, once it says so; None where it ended before. A large model takes long to load."""
    while process.returncode is None:
        if words.port is not None:
            return words.port
        await asyncio.sleep(_READY_EVERY)
    return None


async def _is_ready(process: asyncio.subprocess.Process, port: int) -> bool:
    """Waits until it is well; False where it ended before, or is not well for long."""
    deadline = monotonic() + _READY_SECONDS
    while process.returncode is None and monotonic() < deadline:
        if await is_healthy(port):
            return True
        await asyncio.sleep(_READY_EVERY)
    return False


def _last(words: Sequence[str]) -> str:
    return f" ({words[-1]})" if words else ""


async def is_healthy(port: int) -> bool:
    """Whether the server there says that it is."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_HEALTH_SECONDS):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    return False


async def _hangs(process: asyncio.subprocess.Process, port: int) -> bool:
    """Waits until it ends (False), or says nothing any more (True)."""
    misses = 0
    while misses < _MISSES:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_EVERY):
                await process.wait()
                return False
        misses = 0 if await is_healthy(port) else misses + 1
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
