"""What the pages say holds: their keys exist, their commands run, their examples work."""

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.fabricated_run import fabricate

from inhouse.cli.app import main
from inhouse.common.lineage import check_lineage
from inhouse.pipeline.runner import make
from inhouse.recipe.errors import keys_at
from inhouse.recipe.lines import Location
from inhouse.recipe.ready import ready_recipes
from inhouse.recipe.recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
RECIPES = [*EXAMPLES, *ready_recipes().values()]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TABLES = "|".join(name for name in Recipe.model_fields if keys_at(Recipe, (name,)))
NAMED_FREELY = (["sft", "generated"], ["midtrain", "mixture"], ["rl", "environments"])
KEY = rf"(?:{TABLES})(?:\.\w+)+"


def exists(dotted: str) -> bool:
    """Whether a recipe has this key, or a mapping at its last but one part."""
    location: Location = tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))
    *holder, key = (part for part in location if not isinstance(part, int))
    return key in keys_at(Recipe, tuple(holder)) or holder in NAMED_FREELY


def keys_of(value: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a parsed TOML text."""
    if isinstance(value, list):
        for part in value:
            yield from keys_of(part, prefix)
    elif isinstance(value, dict):
        for key, part in value.items():
            if prefix:
                yield f"{prefix}.{key}"
            yield from keys_of(part, f"{prefix}.{key}" if prefix else key)


def indented(page: Path, start: str) -> list[str]:
    """The commands of a page: indented lines that begin so, without the remarks behind them."""
    lines = (line.strip() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    "))
    return [re.split(r"\s{2,}#", line)[0] for line in lines if line.startswith(start)]


@pytest.mark.parametrize("file", [*PAGES, *RECIPES, *SOURCES], ids=lambda file: str(file.relative_to(ROOT)))
def test_keys_that_are_named_exist(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    named = {*re.findall(rf"--set \"?({KEY})=", text), *re.findall(rf"`({KEY})(?: = [^`]*)?`", text)}
    named |= {f"{table}.{key}" for table, key in re.findall(rf"\[({TABLES})\] (\w+)(?= = | has no effect)", text)}
    files = {name for name in named if re.search(r"\.(md|py|json|jsonl|safetensors|toml)$", name)}
    assert [name for name in sorted(named - files) if not exists(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_on_pages_have_only_keys_that_exist(page: Path) -> None:
    for text in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        assert [key for key in keys_of(tomllib.loads(text)) if not exists(key)] == []


@pytest.mark.parametrize("command", indented(ROOT / "docs" / "change-one-thing.md", "inhouse "))
def test_every_change_is_a_command_that_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("our-manuals", "more-text"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "page.md").write_text("A page.\n" * 100)
    (readme,) = re.findall(
        r"^```toml\n(# my-recipe.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "my-recipe.toml").write_text(readme)
    arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", arguments if "--emit" in arguments else [*arguments, "--dry-run"])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert not end.value.code, said.err
    assert "has no effect" not in said.err
    for override in (arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word == "--set"):
        value = override.partition("=")[2]
        assert (
            value.lstrip("[") in said.out.replace(",", "_")
            or "{" in value
            or "--emit" in arguments
            or (value.replace("_", "") in said.out.replace(",", ""))
        ), f"{override} is not in what the dry run shows"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_gives_a_model(example: Path, tmp_path: Path) -> None:
    less = [
        "pretrain.tokens=8192", "sft.epochs=1", "sft.generated={addition=20, brackets=10}",
        "evaluate={problems_per_kind=2, unscored_per_kind=2, max_answer_tokens=16}", "export.gguf=[]",
    ]  # fmt: skip
    run = make(load_recipe(example, less), tmp_path, say=lambda line: None)
    assert run is not None
    assert check_lineage(run) == []
    assert (run / "export" / "huggingface" / "config.json").is_file()


def test_the_example_in_python_takes_the_likeliest_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    asked = []

    class Engine:
        """Ends an answer at once."""

        max_context = 100

        def stream(self, prompt: list[int], params: Any) -> list[Any]:
            asked.append(params)
            return [Output(0, "stop", "17 + 25 = 42")]

    import inhouse.chat
    from inhouse.data.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(["What is 17 + 25? " * 50 + Path(__file__).read_text()], 300)
    opened = inhouse.chat.Model(Engine(), tokenizer, inhouse.posttrain.chat_template.CHAT_TEMPLATE)  # type: ignore[arg-type]
    monkeypatch.setattr(inhouse.chat.Model, "load", lambda path, dtype: opened)
    exec(code, {})
    assert capsys.readouterr().out == "17 + 25 = 42\n"
    assert asked[0].temperature == 0.0


class Output:
    """What an engine's step gives for a request."""

    def __init__(self, number: int, finish_reason: str, text: str) -> None:
        self.id, self.finish_reason, self.text = number, finish_reason, text


def test_the_window_is_filled_from_a_run(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("window", ROOT / "docs" / "window.py")
    assert spec is not None and spec.loader is not None
    window = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(window)
    drawing = window.picture(fabricate(tmp_path / "mine"))
    root = ElementTree.fromstring(drawing)
    assert len(root.findall("{http://www.w3.org/2000/svg}svg")) == 4
    ids = re.findall(r'id="([^"]+)"', drawing)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', drawing)) <= set(ids)
    page = window.fill("a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n", "x", r"n\1ew")
    assert page == "a\n<!-- x -->\n```\nn\\1ew\n```\n<!-- end -->\nb\n<!-- y -->\n<!-- end -->\n"
    readme = (ROOT / "README.md").read_text()
    for name in ("make preview", "make test", "conversation"):
        window.fill(readme, name, "")


def test_the_picture_of_the_report_is_small() -> None:
    path = ROOT / "docs" / "report.svg"
    assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
    assert path.stat().st_size < 150_000
