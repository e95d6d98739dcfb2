"""What must load without torch does, whichever of its modules is imported first."""

import json
import subprocess
import sys

import pytest

WITHOUT_TORCH = (
    "inhouse.api",
    "inhouse.arena",
    "inhouse.arena.battle",
    "inhouse.cli.app",
    "inhouse.engine.request",
    "inhouse.engine.settings",
    "inhouse.environments",
    "inhouse.environments.foreign",
    "inhouse.environments.made",
    "inhouse.environments.product",
    "inhouse.environments.sandbox",
    "inhouse.environments.verifiers",
    "inhouse.evaluate.compare",
    "inhouse.evaluate.suite.endpoint",
    "inhouse.evaluate.suite.routing_scores",
    "inhouse.evaluate.suite.suite",
    "inhouse.evaluate.suite.summary",
    "inhouse.evaluate.tasks",
    "inhouse.gateway",
    "inhouse.gateway.config",
    "inhouse.gateway.contracts",
    "inhouse.gateway.house",
    "inhouse.gateway.outside",
    "inhouse.gateway.routing",
    "inhouse.gateway.routing.backtest",
    "inhouse.gateway.spend",
    "inhouse.gateway.store",
    "inhouse.jobs",
    "inhouse.pipeline",
    "inhouse.providers",
    "inhouse.providers.http",
    "inhouse.recipe",
    "inhouse.recipe.recipe",
    "inhouse.report",
)
# each room in a process of its own, forked off one that has imported what the rooms need of others
CODE = """
import importlib, json, os, pkgutil, sys
import aiohttp, httpx, jinja2, numpy, pydantic, starlette.applications, typer
assert "torch" not in sys.modules, "torch is imported before any room"
found = {}
for name in sys.argv[1:]:
    read, write = os.pipe()
    if not os.fork():
        os.dup2(write, 2)
        room = importlib.import_module(name)
        for module in pkgutil.walk_packages(getattr(room, "__path__", []), name + "."):
            importlib.import_module(module.name)
            assert "torch" not in sys.modules, f"{module.name} imports torch"
        assert "torch" not in sys.modules, f"{name} imports torch"
        sys.exit()
    os.close(write)
    said = os.fdopen(read).read()
    found[name] = said if os.wait()[1] else ""
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    """What each room says that does not load; an empty text of one that does."""
    done = subprocess.run([sys.executable, "-c", CODE, *WITHOUT_TORCH], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_needs_no_torch(room: str, wrong: dict[str, str]) -> None:
    assert not wrong[room]
