"""vLLM's own server as a child that only we can ask: what it is started with, and that it ends with us."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from inhouse.engine.settings import EngineSettings
from inhouse.serve.vllm import leash

MODEL = "model"  # what vLLM calls it: the name that clients use is ours to check
URL = "http://localhost"  # whatever stands there: requests go through the socket
_LAST_LINES = 20
_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
_WITHOUT = {  # settings of our engine that vLLM has nothing for
    "prompt_turn": "it shares its steps out by --max-prefill alone",
    "threads": "it takes its threads from its own environment variables",
    "weights": "it takes them as the folder has them",
    "speculation": "it has its own, which is not set up here",
    "draft_tokens": "it has its own drafts, which are not set up here",
    "draft_model": "it has its own drafts, which are not set up here",
}


class VllmEnded(Exception):
    """vLLM ended while it was needed. Started again, it may well work."""

    exit_status = os.EX_TEMPFAIL


def arguments(folder: Path, socket: Path, context: int, dtype: str, engine: EngineSettings, gpus: int) -> list[str]:
    """Those of `vllm serve` for our settings; of a value that nobody gave, vLLM's own default holds."""
    given = engine.model_fields_set
    options: dict[str, object] = {
        "uds": socket,  # not a port: vLLM has paths that ask for no key, and a machine may have other users
        "served-model-name": MODEL,
        "dtype": _DTYPES[dtype],
        "max-model-len": context,
        "max-num-seqs": engine.max_sequences,
        "tensor-parallel-size": gpus,
        "generation-config": "vllm",  # every request says how to sample
        "scheduling-policy": "priority",
        "logprobs-mode": "raw_logprobs",  # of the model itself, as ours
        "max-logprobs": 20,
        "structured-outputs-config.backend": "guidance",  # llguidance, as ours
    }
    if "cache_gib" in given:
        options["kv-cache-memory-bytes"] = int(engine.cache_gib * 2**30)
    if "page_size" in given:
        options["block-size"] = engine.page_size
    if "max_prefill" in given:
        options["max-num-batched-tokens"] = engine.max_prefill
    flags = ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    if not engine.compile and "compile" in given:
        flags.append("--enforce-eager")
    return ["serve", str(folder), *(f"--{name}={value}" for name, value in options.items()), *flags]


def check_settings(engine: EngineSettings) -> None:
    """Raises `ValueError` for a setting that was given and that vLLM has nothing for."""
    for name, why in _WITHOUT.items():
        if name in engine.model_fields_set and getattr(engine, name) not in (None, "auto", "none"):
            raise ValueError(f"--{name.replace('_', '-')} has no meaning with --engine vllm: {why}; leave it out")


def find_vllm() -> str:
    """The program, from the PATH or this environment. Raises `ValueError` with what to do where there is none."""
    found = shutil.which("vllm") or shutil.which("vllm", path=str(Path(sys.executable).parent))
    if found is None:
        raise ValueError(
            "--engine vllm needs the program vllm, and there is none on the PATH; install it in an environment of its "
            "own (python -m venv vllm && vllm/bin/pip install vllm) and start with PATH=$PWD/vllm/bin:$PATH"
        )
    return found


class Program:
    """`with Program(command, socket) as vllm`: started, its log passed on to stderr, ended in the end with all of its
    own processes. It ends too where this process is killed."""

    def __init__(self, command: list[str], socket: Path, hidden: str = "") -> None:
        """It listens on `socket`; `hidden` is an environment variable that is none of its business."""
        self.socket, self.key = str(socket), secrets.token_urlsafe(32)
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        environment = {name: value for name, value in os.environ.items() if name != hidden}
        environment |= {
            "VLLM_API_KEY": self.key,  # not an argument, which every user of the machine may read
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", leash.__file__, *command], env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace",
        )  # fmt: skip
        self._reader = threading.Thread(target=self._pass_on, name="vllm's log", daemon=True)
        self._reader.start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ended(self) -> VllmEnded:
        """What to raise once it has: with its last lines."""
        self._reader.join(1.0)
        return VllmEnded("\n".join(["vLLM has ended; its last lines:", *(f"  {line}" for line in self._lines)]))

    def wait_ready(self) -> float:
        """Wait until it answers /health; the seconds that it took. Raises `VllmEnded`."""
        start, told = time.monotonic(), 0.0
        with httpx.Client(base_url=URL, transport=httpx.HTTPTransport(uds=self.socket), timeout=2.0) as client:
            while not self.has_ended:
                with suppress(httpx.HTTPError):
                    if client.get("/health").status_code == 200:
                        return time.monotonic() - start
                if (waited := time.monotonic() - start) >= told + 30:
                    told = waited
                    print(f"vLLM has been loading for {waited:.0f} s", file=sys.stderr, flush=True)
                time.sleep(0.2)
        raise self.ended()

    def stop(self) -> None:
        """End it, and whatever it has started."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(leash.GRACE_SECONDS + 5.0)
        with suppress(ProcessLookupError):  # the leash itself may have been killed
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _pass_on(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip())
            sys.stderr.write(f"vllm: {line.rstrip()}\n")  # at once: others write there too
