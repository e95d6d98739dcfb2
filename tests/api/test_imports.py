"""Rooms that servers, the gateway and tools share load no torch, so that they start at once."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

# a package stands for every module in it
TORCH_FREE = (
    "inhouse.api", "inhouse.jobs", "inhouse.environments", "inhouse.providers", "inhouse.recipe.recipe",
    "inhouse.engine.settings", "inhouse.engine.request",
)  # fmt: skip


def modules_of(name: str) -> list[str]:
    paths = getattr(importlib.import_module(name), "__path__", ())
    return [name, *(module.name for module in pkgutil.walk_packages(paths, f"{name}."))]


@pytest.mark.parametrize("name", TORCH_FREE)
def test_no_module_loads_torch(name):
    program = f"import importlib, sys\nfor name in {modules_of(name)}: importlib.import_module(name)\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
