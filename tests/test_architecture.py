"""The house is as its picture and its rules have it."""

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_FILES = 16  # a folder


def drawing() -> str:
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    picture: str = module.draw()
    return picture


def test_the_picture_is_drawn_from_todays_imports() -> None:
    assert drawing() == (ROOT / "docs" / "architecture.svg").read_text(), "run `python docs/architecture.py`"


def test_no_folder_is_too_full_to_look_through() -> None:
    folders = {path.parent for path in (ROOT / "src").rglob("*.py")}
    assert {str(f): n for f in folders if (n := len(list(f.glob("*.py")))) > MOST_FILES} == {}


def test_every_file_that_the_documentation_names_is_there() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.[a-z]+)`", page.read_text())}
    roots = (ROOT, ROOT / "src" / "inhouse")
    missing = {name for name in named if not any((root / name).exists() for root in roots)}
    assert {name for name in missing if name.endswith(".py") or name.startswith(("docs/", "bench/", "tests/"))} == set()
    assert len(named) > 20
