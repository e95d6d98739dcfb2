"""Every key of a TOML text is found on its line, in one pass."""

import tomllib

import pytest

from inhouse.recipe import lines
from inhouse.recipe.lines import key_lines

TEXT = '''# [no.header]
seed = 1
text = """
[not.a.table]   # "" ' \\""" x = 1
""""
other = \'\'\'
"""
\'\'\' # '''
TEXT += """
dotted.key = { a = [1, 2], "b.c" = '#' }
[[data.sources]]
name = "a"   # ]]] {{{
[data.sources.more]
x = 1
[[data.sources]]
"quoted key" = [
  {y = 1}, # }
  [ [ 3 ] ],
]
[ pretrain ]
  tokens = 3
"""


def test_every_key_has_its_line() -> None:
    assert tomllib.loads(TEXT)["text"].count('"') == 6
    found = key_lines(TEXT)
    rows = TEXT.splitlines()
    expected = {
        ("seed",): "seed", ("text",): "text", ("other",): "other", ("dotted", "key"): "dotted",
        ("dotted", "key", "a", 1): "dotted", ("dotted", "key", "b.c"): "dotted", ("data", "sources", 0): "[[data",
        ("data", "sources", 0, "name"): "name", ("data", "sources", 0, "more", "x"): "x = 1",
        ("data", "sources", 1, "quoted key"): '"quoted', ("data", "sources", 1, "quoted key", 1, 0, 0): '"quoted',
        ("pretrain",): "[ pre", ("pretrain", "tokens"): "  tokens",
    }  # fmt: skip
    for location, start in expected.items():
        assert rows[found[location] - 1].startswith(start), location
    assert found["data", "sources"] < found["data", "sources", 1]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("shape", ["tables", "one value"])
def test_the_work_grows_with_the_text(shape: str, ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Characters that are parsed, of a text and of one ten times as long."""
    parsed: list[int] = []
    loads = tomllib.loads
    monkeypatch.setattr(lines.tomllib, "loads", lambda text: parsed.append(len(text)) or loads(text))

    def work(count: int) -> float:
        text = "".join(f"[[data.sources]]\npath = 'x'\nnmae = '{i}'\n" for i in range(count))
        if shape == "one value":
            text = "[data]\nsources = [\n" + "  {path = 'x', nmae = 'y'},\n" * count + "]\n"
        parsed.clear()
        key_lines(text.replace("\n", ends))
        return sum(parsed) / len(text)

    assert work(2000) < 1.2 * work(200)
