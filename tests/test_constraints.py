"""The same a year from now: all that the two commands install is pinned, and under licences that are on the list."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINNED = dict(line.split("==") for line in LINES if line and not line.startswith("#"))
ONLY_WITH_CUDA = re.compile(r"nvidia-|cuda-|triton")  # of torch's other builds
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def requirements(extras: tuple[str, ...]) -> Iterator[Requirement]:
    """What pyproject.toml asks for, with extras and the extras that those name."""
    project = PROJECT["project"]
    yield from map(Requirement, project["dependencies"])
    for extra in extras:
        for requirement in map(Requirement, project["optional-dependencies"][extra]):
            if requirement.name == "inhouse":
                yield from requirements(tuple(requirement.extras))
            else:
                yield requirement


def installed_with(roots: Iterator[Requirement]) -> set[str]:
    """The names of all distributions that these bring along here."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform or Python
        extras = {"", *requirement.extras}
        wanted = [
            r for r in map(Requirement, needs) if not r.marker or any(r.marker.evaluate({"extra": e}) for e in extras)
        ]
        if name not in found:
            found.add(name)
            waiting += wanted
    return found


def licences(name: str) -> set[str]:
    """The parts of a distribution's licence: its SPDX expression, or else its classifiers."""
    about = metadata.metadata(name)
    classifiers = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License")]
    text = about.get("License-Expression") or " AND ".join(classifiers) or about.get("License") or "unknown"
    return set(re.split(r" (?:AND|OR) ", re.sub("[()]", "", text.splitlines()[0])))


def test_every_line_is_one_pin_that_any_index_has() -> None:
    for name, version in PINNED.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), name
        assert re.fullmatch(r"[0-9][0-9A-Za-z.]*", version), f"{name}=={version}: a build that is not on every index"
        assert not ONLY_WITH_CUDA.match(name), f"{name} is needed by one build of torch only"


def test_all_that_the_two_commands_install_is_pinned() -> None:
    pinned = {canonicalize_name(name) for name in PINNED}
    needed = {name for name in installed_with(requirements(("dev",))) if not ONLY_WITH_CUDA.match(name)}
    assert needed - pinned == set(), "run `make lock`"
    assert {canonicalize_name(r.name) for r in requirements(("dev",))} <= pinned, "run `make lock`"


def test_the_pins_are_what_the_project_asks_for() -> None:
    for requirement in requirements(("dev",)):
        version = next(
            v for name, v in PINNED.items() if canonicalize_name(name) == canonicalize_name(requirement.name)
        )
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is pinned: run `make lock`"


@pytest.mark.parametrize("name", PINNED)
def test_a_pin_is_for_every_python_and_its_licence_is_on_the_list(name: str) -> None:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        pytest.skip("not installed here")
    if about["Version"].partition("+")[0] == PINNED[name]:
        asks = SpecifierSet(about.get("Requires-Python") or "")
        assert [python for python in PYTHONS if not asks.contains(f"{python}.0")] == []
    listed = PROJECT["tool"]["inhouse"]["licences"]
    known = set(listed["of"].get(name, [])) or licences(name)
    assert known <= set(listed["allowed"]), f"{name}: look at its licence, and list it if you may use it"
