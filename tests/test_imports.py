"""What must load without torch does, whichever of its modules is imported first."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = (
    "inhouse.arena",
    "inhouse.arena.battle",
    "inhouse.cli.app",
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
    "inhouse.report",
)
CODE = """
import importlib, pkgutil, sys
room = importlib.import_module(sys.argv[1])
for module in pkgutil.iter_modules(getattr(room, "__path__", []), room.__name__ + "."):
    importlib.import_module(module.name)
    assert "torch" not in sys.modules, f"{module.name} imports torch"
assert "torch" not in sys.modules, f"{room.__name__} imports torch"
"""


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_a_room_needs_no_torch(room: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, room], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
