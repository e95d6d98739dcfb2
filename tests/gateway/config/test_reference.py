"""The page of all keys is the settings types' own words, and its example is read."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from inhouse.common.files import write_json
from inhouse.gateway.config.read import read_config

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gateway_config", DOCS / "gateway_config.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_the_keys_as_they_are(script: ModuleType) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.filled(page) == page, "run docs/gateway_config.py"
    assert "### [failover]" in page and "### [[provider.model.price]]" in page


def test_the_example_of_the_page_is_read(script: ModuleType, tmp_path: Path) -> None:
    (text,) = re.findall(r"^```\n(currency.*?)^```", script.PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "runs" / "preview").mkdir(parents=True)
    write_json(tmp_path / "runs" / "preview" / "config.json", {})
    (tmp_path / "gateway.toml").write_text(text)
    config = read_config(tmp_path / "gateway.toml", lambda: 1.79e9)
    assert [target.upstream for target in config.targets()] == ["preview", "big-2026-10"]
