"""`inhouse serve --engine vllm`: vLLM generates, everything else is as with our own engine."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from inhouse.api.server import listen
from inhouse.api.settings import ServeSettings
from inhouse.checkpoint.model_folder import read_config
from inhouse.common.processes import Terminated
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import ends_of
from inhouse.engine.grammar import Grammars
from inhouse.engine.settings import EngineSettings, ServingSettings
from inhouse.posttrain.opened_model import read_chat_template, read_generation, resolve_dtype
from inhouse.serve.app import create_app
from inhouse.serve.server import key_in_shell, run_until_stopped
from inhouse.serve.vllm.program import Program, arguments, check_settings, find_vllm
from inhouse.serve.vllm.worker import Vllm, VllmWorker


def serve(
    model_folder: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    settings: ServeSettings | None = None,
    name: str | None = None,
    engine: EngineSettings | None = None,
    dtype: str = "auto",
    key_variable: str = "API_KEY",
    gpus: int = 1,
) -> None:
    """As `inhouse.serve.server.serve`, with vLLM in `gpus` GPUs.

    Raises `ValueError` where there is no vllm, or a setting that it has nothing for; `VllmEnded` where it ended.
    """
    settings, engine, folder = settings or ServeSettings(), engine or ServingSettings(), model_folder.resolve()
    check_settings(engine)
    program = find_vllm()
    config, tokenizer, generation = read_config(folder), Tokenizer.load(folder), read_generation(folder)
    dtype = resolve_dtype(folder, dtype)
    ends = frozenset(end for end in ends_of(tokenizer, generation.end_ids) if end < config.vocab_size)
    with _sigterm_after_cleaning_up(), ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        socket = Path(stack.enter_context(TemporaryDirectory(prefix="inhouse-vllm-"))) / "socket"
        command = [program, *arguments(folder, socket, config.max_position, dtype, engine, gpus)]
        vllm = stack.enter_context(Program(command, socket, hidden=key_variable))
        print("starting vLLM, which may take minutes; its log follows", file=sys.stderr, flush=True)
        print(f"vLLM is ready after {vllm.wait_ready():.0f} s", file=sys.stderr, flush=True)
        generating = Vllm(
            vllm, engine, tokenizer, ends, config.max_position, config.vocab_size,
            Grammars(tokenizer, config.vocab_size, ends),
        )  # fmt: skip
        new_app = partial(
            create_app, generating, tokenizer, name=name or folder.name, chat_template=read_chat_template(folder),
            sampling=generation.sampling, api_key=api_key, settings=settings, host=host, worker_type=VllmWorker,
        )  # fmt: skip
        served = run_until_stopped(listener, new_app, host, settings, key_in_shell(api_key, key_variable))
        if served.worker.failure is not None:
            vllm.stop()
            raise vllm.ended()


@contextmanager
def _sigterm_after_cleaning_up() -> Iterator[None]:
    """SIGTERM ends the process when the block has been left in order: uvicorn raises it again, and that ends all."""

    def on_signal(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    except Terminated:
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
