"""vLLM as a child: what it is started with, and that it never outlives us."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from inhouse.common.model_paths import find_exported
from inhouse.engine.settings import EngineSettings, ServingSettings
from inhouse.serve.vllm.program import URL, Program, VllmEnded, arguments, check_settings, find_vllm

ALONE = """
import sys, time
from pathlib import Path
from inhouse.serve.vllm.program import Program
with Program(["vllm", "serve", "x", "--dtype=bfloat16", "--uds=" + sys.argv[1]], Path(sys.argv[1])) as program:
    program.wait_ready()
    print("ready", flush=True)
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_setting_is_carried_or_refused():
    given = {"max_sequences": 5, "cache_gib": 2.0, "page_size": 32, "max_prefill": 99, "compile": False}
    line = arguments(Path("/m"), Path("/s"), 64, "bf16", ServingSettings(**given), 2)
    assert {"--max-num-seqs=5", "--kv-cache-memory-bytes=2147483648", "--block-size=32"} <= set(line)
    assert {"--max-num-batched-tokens=99", "--enforce-eager", "--tensor-parallel-size=2", "--dtype=bfloat16"} <= set(
        line
    )
    plain = arguments(Path("/m"), Path("/s"), 64, "fp32", EngineSettings(), 1)
    assert not {word.partition("=")[0] for word in plain} & {
        "--block-size",
        "--kv-cache-memory-bytes",
        "--enforce-eager",
    }
    refused = {"prompt_turn": 0.1, "threads": 2, "weights": "int8", "speculation": "ngram", "draft_tokens": 3}
    assert given.keys() | refused.keys() | {"draft_model"} == ServingSettings.model_fields.keys()
    with pytest.raises(ValueError, match="--speculation has no meaning with --engine vllm"):
        check_settings(ServingSettings(speculation="model", draft_model="x"))
    for name, value in refused.items():
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} has no meaning with --engine vllm"):
            check_settings(ServingSettings(**{name: value}))


def test_without_vllm_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="pip install vllm"):
        find_vllm()


def test_a_run_is_served_from_its_export(tmp_path):
    with pytest.raises(ValueError, match="nothing is exported here"):
        find_exported(tmp_path)
    folder = tmp_path / "export" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert find_exported(tmp_path) == find_exported(tmp_path / "export") == find_exported(folder) == folder


def test_what_does_not_start_is_told_by_its_last_lines():
    command = [sys.executable, "-c", "print('no memory'); raise SystemExit(3)"]
    with Program(command, Path("/nowhere")) as program, pytest.raises(VllmEnded) as told:
        program.wait_ready()
    assert str(told.value).splitlines()[1:] == ["  no memory", "  vllm ended with status 3"]


def test_the_key_is_no_argument_and_ours_is_not_passed_on(stand_in, monkeypatch, tmp_path):
    monkeypatch.setenv("OUR_KEY", "ours")
    socket = tmp_path / "socket"
    command = [find_vllm(), "serve", "x", "--dtype=bfloat16", f"--uds={socket}"]
    with Program(command, socket, hidden="OUR_KEY") as program:
        program.wait_ready()
        record = stand_in()
        assert record["env"]["VLLM_API_KEY"] == program.key and len(program.key) > 40
        assert "OUR_KEY" not in record["env"] and record["env"]["VLLM_NO_USAGE_STATS"] == "1"
        assert not any(program.key in word for word in record["argv"])
        wrong = {"authorization": "Bearer x"}
        with httpx.Client(base_url=URL, transport=httpx.HTTPTransport(uds=str(socket))) as client:
            assert client.post("/v1/completions", json={}, headers=wrong).status_code == 401
    assert not is_alive(record["pid"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_however_we_end_it_ends(stand_in, number, eventually, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, str(tmp_path / "socket")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        pid = stand_in()["pid"]
        process.send_signal(number)
        process.wait(60)
        eventually(lambda: not is_alive(pid))
    finally:
        process.kill()
        process.stdout.close()


def test_the_command_serves_drains_and_takes_vllm_with_it(stand_in, folder, eventually, monkeypatch):
    """The user's path: a stream that has begun ends in full after SIGTERM, then both processes are gone."""
    monkeypatch.setenv("MY_KEY", "ours")
    monkeypatch.setenv("STAND_IN_SECONDS", "0.02")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "inhouse", "serve", folder, "--engine", "vllm", "--dtype", "bf16"]
    options = ["--port", str(port), "--api-key-env", "MY_KEY", "--shutdown-timeout", "60", "--name", "it's"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        lines = []
        while not lines or not lines[-1].startswith("try: "):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        assert "vllm: the stand-in begins to listen" in "".join(lines)
        url, key = f"http://127.0.0.1:{port}", {"authorization": "Bearer ours"}
        eventually(lambda: answers(url))
        assert httpx.get(f"{url}/metrics").status_code == 401
        body = {"model": "it's", "prompt": "a", "max_tokens": 60, "stream": True, "temperature": 0}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, headers=key, timeout=60) as answer:
            pieces = answer.iter_text()
            text = next(pieces)
            process.send_signal(signal.SIGTERM)
            text += "".join(pieces)
        assert text.endswith("data: [DONE]\n\n") and '"finish_reason":"length"' in text
        assert process.wait(60) == -signal.SIGTERM
        record = stand_in()
        assert not is_alive(record["pid"])
        (inner,) = (word.removeprefix("--uds=") for word in record["argv"] if word.startswith("--uds="))
        assert not Path(inner).parent.exists()
        assert "MY_KEY" not in record["env"] and record["argv"][1] == str(folder.resolve())
        assert "ours" not in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False
