"""What `init` writes is a configuration that is read without a complaint."""

from pathlib import Path

import pytest

from inhouse.common.files import write_json
from inhouse.gateway.config.init import KNOWN, write_config
from inhouse.gateway.config.read import read_config


def test_runs_and_keys_are_used(tmp_path: Path) -> None:
    for name in ("preview", "openai", "unfinished"):
        (tmp_path / "runs" / name / "sft").mkdir(parents=True)
    for name in ("preview", "openai"):
        write_json(tmp_path / "runs" / name / "sft" / "config.json", {})
    path = tmp_path / "gateway.toml"
    found = write_config(path, tmp_path / "runs", {known.variable: "key" for known in KNOWN})
    config = read_config(path)
    names = [provider.name for provider in config.provider]
    assert sorted(names[:2]) == ["openai", "preview"]
    assert names[2:] == ["openai-api", "anthropic", "gemini", "mistral", "deepseek"]
    assert len(found) == len(names)
    assert config.default in names[:2]
    assert {provider.key_env for provider in config.provider if provider.key_env} == {each.variable for each in KNOWN}
    assert "key" not in path.read_text().replace("key_env", "").replace("keys", "")


def test_nothing_is_written_over_and_nothing_without_a_provider(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    with pytest.raises(ValueError, match="nothing that could answer was found"):
        write_config(path, tmp_path / "runs", {"OPENAI_API_KEY": " "})
    assert not path.exists()
    write_config(path, tmp_path / "runs", {"OPENAI_API_KEY": "key"})
    with pytest.raises(ValueError, match="there is one already"):
        write_config(path, tmp_path / "runs", {"OPENAI_API_KEY": "key"})


def test_a_run_may_be_called_anything(tmp_path: Path) -> None:
    names = ["my run", 'q"uo\\te', "grün", "auto", "...", "my-run", "a\nb"]
    for name in names:
        (tmp_path / "runs" / name / "sft").mkdir(parents=True)
        write_json(tmp_path / "runs" / name / "sft" / "config.json", {})
    write_config(tmp_path / "gateway.toml", tmp_path / "runs", {})
    config = read_config(tmp_path / "gateway.toml")
    assert sorted(provider.run.name for provider in config.provider if provider.run) == sorted(names)
    assert {"auto-run", "run", "gr-n", "q-uo-te", "a-b", "my-run", "my-run-2"} == {
        each.name for each in config.provider
    }
