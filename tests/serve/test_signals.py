"""`serve` as a process of its own: it comes up from a folder and goes away in order."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from inhouse.checkpoint.model_folder import save_model
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.serve.server import example_request

PROGRAM = """
import sys
from pathlib import Path
from inhouse.api.settings import ServeSettings
from inhouse.engine.settings import EngineSettings
from inhouse.serve.server import serve
serve(
    Path(sys.argv[1]), port=int(sys.argv[2]), settings=ServeSettings(shutdown_timeout=1), engine=EngineSettings()
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mine"
    folder.mkdir()
    tokenizer.save(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    save_model(model, folder)
    return folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_signals_end_it_in_order(folder, eventually, number, status):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", PROGRAM, str(folder), str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert line == f"mine is served at {url}/v1; Ctrl-C stops it\n"
        line = process.stderr.readline()
        assert line.startswith("try: curl ")
        eventually(lambda: answers(url), seconds=180)
        done = subprocess.run(["bash", "-c", line.removeprefix("try: ")], capture_output=True, text=True, timeout=180)
        assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant", done.stderr
        body = {"model": "mine", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=120) == status
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()


def answers(url: str) -> bool:
    try:
        return json.loads(httpx.get(f"{url}/health").content) == {"status": "ok"}
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, None], ids=["chat", "base"])
@pytest.mark.parametrize("key", [None, "secret"])
def test_the_request_that_is_printed_is_answered(run_server, template, key, monkeypatch):
    """Whatever the model is called, with a key and without, of a base model too."""
    name = 'it\'s $(a) "name" é'
    with run_server(name=name, chat_template=template, api_key=key) as server:
        line = example_request(f"{server.url}/v1", name, template is not None, None if key is None else "$MY_KEY")
        monkeypatch.setenv("MY_KEY", "secret")
        done = subprocess.run(["bash", "-c", f"{line} -s -f"], capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["model"] == name


def test_an_engine_that_can_compute_no_more_ends_the_process(folder, eventually):
    """So that a supervisor starts it again; requests under way are told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    dead = "from inhouse.model.transformer import Transformer\nTransformer.forward = lambda *given: 1 / 0\n"
    process = subprocess.Popen([sys.executable, "-c", dead + PROGRAM, str(folder), str(port)], stderr=subprocess.PIPE)
    try:
        eventually(lambda: answers(url), seconds=180)
        answer = httpx.post(f"{url}/v1/completions", json={"model": "mine", "prompt": "a"}, timeout=120)
        assert answer.status_code == 500 and "ZeroDivision" not in answer.text
        assert process.wait(timeout=120) == 1
    finally:
        process.kill()
        process.stderr.close()
