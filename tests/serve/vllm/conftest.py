"""A stand-in on the PATH by the name of vllm, and our server in front of it."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from inhouse.checkpoint.model_folder import read_config, save_model
from inhouse.engine.engine import ends_of
from inhouse.engine.grammar import Grammars
from inhouse.engine.settings import EngineSettings
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.serve.vllm.program import Program, arguments, find_vllm
from inhouse.serve.vllm.worker import Vllm, VllmWorker


@pytest.fixture(scope="session")
def folder(tmp_path_factory, model, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "mine"
    folder.mkdir()
    tokenizer.save(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    save_model(model, folder)
    return folder


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory) -> Iterator[Callable[[], dict]]:
    """`stand_in()` tells what the last one was started with."""
    programs = tmp_path_factory.mktemp("programs")
    script = shlex.join([sys.executable, str(Path(__file__).with_name("stand_in.py"))])
    (programs / "vllm").write_text(f'#!/bin/sh\nexec {script} "$@"\n')
    (programs / "vllm").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        patch.setenv("STAND_IN_RECORD", str(programs / "record.json"))
        yield lambda: json.loads((programs / "record.json").read_text())


@pytest.fixture(scope="session")
def run_vllm(stand_in, folder, tokenizer, run_server, tmp_path_factory) -> Callable[..., AbstractContextManager]:
    """`with run_vllm(dtype="bf16") as (program, server)`: our server before a stand-in (bf16: without an engine)."""

    @contextmanager
    def run(dtype: str, **options: object) -> Iterator[tuple]:
        config, socket = read_config(folder), tmp_path_factory.mktemp("private") / "socket"
        settings, ends = EngineSettings(max_sequences=8), frozenset(ends_of(tokenizer))
        command = [find_vllm(), *arguments(folder, socket, config.max_position, dtype, settings, 1)]
        with Program(command, socket, hidden="SECRET_OF_OURS") as program:
            program.wait_ready()
            grammars = Grammars(tokenizer, config.vocab_size, ends)
            engine = Vllm(program, settings, tokenizer, ends, config.max_position, config.vocab_size, grammars)
            with run_server(engine, worker_type=VllmWorker, **options) as server:
                yield program, server

    return run
