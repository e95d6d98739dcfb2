"""Whatever somebody writes into a recipe or behind `--set`: a recipe, or sentences of our own."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from inhouse.recipe.recipe import Recipe, load_recipe

NOT_OURS = re.compile(r"nput should|validation error|pydantic\.|xtra inputs|ield required|an instance of")


def keys(settings: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a recipe, tables included."""
    for name, field in settings.model_fields.items():
        yield prefix + name
        if isinstance(field.default, BaseModel):
            yield from keys(type(field.default), f"{prefix}{name}.")


KEYS = [*keys(Recipe), "data.sources.0.path", "data.sources.0.name", "sft.generated.addition", "sft.conversations.0"]
WORDS = st.sampled_from(
    [*"0123", "x", "lr", "layers", "²", "-1", "9" * 5000, "a b", '"q"', "\n", "sources", "generated"]
)
PLACES = st.one_of(
    st.sampled_from(KEYS),
    st.builds("{}.{}".format, st.sampled_from(KEYS), WORDS),
    st.builds("{}.{}".format, WORDS, WORDS),
    st.text(max_size=8),
)
VALUES = st.one_of(
    st.sampled_from(
        ["true", "inf", "-inf", "nan", "1.0", "1e400", "'x'", "x", "[]", "{}", "[1, 'a', {}]", "{a = true}", "9" * 5000,
         "0x" + "f" * 5000, "[" * 3000, "1979-05-27", "07:32:00", "1\nb = 2", "0", "-1", "4_611_686_018_427_387_904",
         "1e300", "''", "'" + "y" * 300 + "'", "~nobody-knows-whom/x", "'a\\u0000b'", '"a\\nb\\u2028c"', "1e-300"]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(1, 5000).map(str),
    st.text(max_size=8),
)  # fmt: skip


def outcome(path: Path, overrides: list[str]) -> Recipe | str:
    """The recipe, or what its mistakes are said to be."""
    try:
        return load_recipe(path, overrides)
    except ValueError as error:
        message = str(error)
        rest = message.replace(str(path), "")
        assert not NOT_OURS.search(rest), message
        assert all(0 < len(line) < 1000 for line in message.splitlines()), message
        return message


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


@given(overrides=st.lists(st.builds("{}={}".format, PLACES, VALUES), max_size=3))
def test_any_override_is_taken_or_answered(folder: Path, overrides: list[str]) -> None:
    path = folder / "plain.toml"
    path.write_text("[[data.sources]]\nname = 'x'\npath = 'python:stdlib'\n")
    outcome(path, overrides)


@given(content=st.one_of(st.text(), st.binary()), has_mark=st.booleans())
def test_any_file_is_read_or_answered(folder: Path, content: str | bytes, has_mark: bool) -> None:
    path = folder / "any.toml"
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    path.write_bytes(b"\xef\xbb\xbf" * has_mark + data)
    outcome(path, [])


@given(lines=st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=4, unique_by=lambda line: line[0]))
def test_any_document_is_taken_or_answered(folder: Path, lines: list[tuple[str, str]]) -> None:
    path = folder / "document.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in lines), encoding="utf-8", errors="surrogatepass")
    said = outcome(path, [])
    if isinstance(said, str) and "not valid TOML" not in said:
        assert all(line.startswith(str(path)) for line in said.splitlines()), said


@given(st.sampled_from(KEYS), VALUES)
def test_one_mistake_is_one_line_that_names_its_place(folder: Path, key: str, value: str) -> None:
    path = folder / "plain.toml"
    path.write_text("[[data.sources]]\nname = 'x'\npath = 'python:stdlib'\n")
    said: Any = outcome(path, [f"{key}={value}"])
    if isinstance(said, str) and len(said.splitlines()) == 1:
        assert said.startswith(("--set ", str(path))), said
