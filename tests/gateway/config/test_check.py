"""Keys, contracts and connections are checked before anything listens; providers that were cut are left alone."""

import asyncio
import socket
from pathlib import Path

import pytest

from inhouse.environments.product.registry import SUITES
from inhouse.gateway.config.check import check_start, unreachable
from inhouse.gateway.config.read import ConfigFile, open_config

TEXT = """\
currency = "USD"
default = "big"
[[provider]]
name = "acme"
dialect = "anthropic"
key_env = "ACME_KEY"
[provider.terms]
end = 2026-12-31
[[provider.model]]
name = "big"
price = [{ currency = "USD", input = 2.0, output = 8.0 }]
"""
BEFORE, BEHIND = 1.79e9, 1.8e9  # of the contract's end


@pytest.fixture
def file(tmp_path: Path) -> ConfigFile:
    (tmp_path / "gateway.toml").write_text(TEXT)
    return open_config(tmp_path / "gateway.toml")


def said(file: ConfigFile, now: float) -> str:
    with pytest.raises(ValueError) as error:
        check_start(file, now)
    return str(error.value).partition("gateway.toml, ")[2]


def test_a_key_is_there_and_of_the_right_kind(file: ConfigFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_KEY", raising=False)
    assert said(file, BEFORE).startswith('line 6: [provider] "acme": the environment variable ACME_KEY is empty or not')
    for key, kind in (("sk-123", "openai"), ("AIza1", "gemini"), ("ih-1", "this gateway's own")):
        monkeypatch.setenv("ACME_KEY", key)
        assert said(file, BEFORE) == f'line 6: [provider] "acme": ACME_KEY holds a key of another kind: {kind}'
        assert key not in said(file, BEFORE)
    monkeypatch.setenv("ACME_KEY", "sk-ant-1")
    check_start(file, BEFORE)
    monkeypatch.setenv("ACME_KEY", "of-no-known-kind")
    check_start(file, BEFORE)


def test_a_contract_that_is_over_is_said_unless_its_provider_is_cut(
    file: ConfigFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-ant-1")
    assert said(file, BEHIND) == (
        "line 8: [provider.terms] the contract with acme ended on 2026-12-31: take the provider out, or give its new "
        "end"
    )
    monkeypatch.delenv("ACME_KEY")
    check_start(file, BEHIND, {"acme"})


def test_tasks_that_no_request_can_be_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", "sk-ant-1")
    path = tmp_path / "gateway.toml"
    path.write_text(
        TEXT.replace("[provider.terms]", '[provider.terms]\nmay_not_serve = ["product/*", "product/cod"]')
        + '[[budget]]\ntask = "marketing"\namount = "5/month"\n'
    )
    assert said(open_config(path), BEFORE).splitlines() == [
        'line 14: [budget] task has "marketing", which no request can be: there are general, '
        + ", ".join(f"product/{name}" for name in sorted(SUITES)),
        f'{path}, line 8: [provider.terms] may_not_serve has "product/cod", which no request can be: did you mean '
        "product/code?",
    ]
    (tmp_path / "labels.jsonl").write_text('{"text": "a", "task": "marketing"}\n{"text": "b", "task": "product/cod"}\n')
    path.write_text(path.read_text() + '[routing]\nlabels = "labels.jsonl"\n')
    check_start(open_config(path), BEFORE)


def test_makers_want_a_key(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(TEXT.replace("key_env", "# key_env"))
    file = open_config(tmp_path / "gateway.toml")
    assert said(file, BEFORE) == 'line 3: [provider] "acme" needs key_env: the environment variable with its key'


def test_who_cannot_be_reached_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        path = tmp_path / "gateway.toml"
        path.write_text(TEXT.replace('key_env = "ACME_KEY"', f'url = "http://127.0.0.1:{port}/v1"'))
        file = open_config(path)
        assert asyncio.run(unreachable(file)) == []
    assert asyncio.run(unreachable(file)) == [
        f'{path}, line 6: [provider] "acme" cannot be reached at http://127.0.0.1:{port}/v1: Connection refused'
    ]
    assert asyncio.run(unreachable(file, {"acme"})) == []


def test_a_proxy_of_the_environment_is_what_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        (tmp_path / "gateway.toml").write_text(TEXT.replace('key_env = "ACME_KEY"', 'url = "https://no.invalid/v1"'))
        assert asyncio.run(unreachable(open_config(tmp_path / "gateway.toml"))) == []


def test_a_run_that_is_gone_stops_the_start_alone(tmp_path: Path) -> None:
    text = 'currency = "USD"\ndefault = "mine"\n[[provider]]\nname = "mine"\ndialect = "inhouse"\nrun = "mine"\n'
    (tmp_path / "gateway.toml").write_text(text + "cost_per_hour = 1.0\ntokens_per_second = 1.0\n")
    file = open_config(tmp_path / "gateway.toml")  # of the verbs that look into the store
    assert said(file, BEFORE).startswith("line 6: [provider] run: ") and "no such folder" in said(file, BEFORE)
    check_start(file, BEFORE, {"mine"})
