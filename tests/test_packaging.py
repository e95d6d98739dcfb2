"""What is installed is whole: the wheel, used outside the checkout, has the ready recipes and the report's page."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked. Built without the network where hatchling is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    subprocess.run([*pip, "--no-build-isolation", "-w", str(folder), str(CHECKOUT)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_ready_recipes_ship_with_the_wheel(installed: Path) -> None:
    shipped = {path.name for path in (installed / "inhouse" / "recipes").iterdir()}
    assert shipped == {path.name for path in (CHECKOUT / "recipes").iterdir()}
    assert (installed / "inhouse" / "report" / "report.html.jinja").is_file()


def test_outside_the_checkout_the_preview_is_found(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inhouse", "make", "preview", "--dry-run"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    code = "import inhouse; print(inhouse.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))
