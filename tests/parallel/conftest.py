"""Layouts that are trained once for all tests that ask for them."""

from collections.abc import Callable
from functools import cache

import pytest
from bench.parallel import Result, run_layouts

Trained = Callable[[tuple[str, ...]], dict[str, Result]]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`trained(layouts)`: two steps of each."""
    return cache(lambda layouts: run_layouts(layouts, 2, tmp_path_factory.mktemp("layouts")))
