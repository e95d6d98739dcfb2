"""Every kind of fault once. `make soak` strikes each many times (bench/soak.py)."""

from pathlib import Path

import pytest
from tests.resilience.endure import Bench, endure
from tests.resilience.faults import KINDS
from tests.resilience.job import LAYOUTS

SEED = 1


@pytest.fixture(scope="session")
def benches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    folder = tmp_path_factory.mktemp("jobs")
    return {layout: Bench(folder, layout) for layout in LAYOUTS}


@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_lost(name: str, benches: dict[str, Bench], tmp_path: Path) -> None:
    assert endure(name, SEED, benches[KINDS[name].layout], tmp_path / "job")
