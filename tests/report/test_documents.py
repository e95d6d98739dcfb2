"""Documents on the terminal: whose they are, where they go, and their text as it is."""

from pathlib import Path

import pytest
from rich.console import Console

from inhouse.data.look import Look
from inhouse.data.settings import DataSettings, Source
from inhouse.data.split.content import content_key, held_keys, is_held_out
from inhouse.report.documents import LINES_SHOWN, show_documents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("One [red]x[/red].\x1b[2J\n\nTwo <|endoftext|>.\n", newline="")
    (tmp_path / "b.txt").write_text("\n\n".join(f"Line {i}." for i in range(50)))
    (tmp_path / "c.bin").write_bytes(b"\0")
    return tmp_path


def printed(folder: Path, number: int = 5, heldout_only: bool = False, is_terminal: bool = False) -> str:
    source = Source(path=str(folder), name="mine", licence="CC0-1.0\x1b")
    console = Console(force_terminal=is_terminal, color_system="standard" if is_terminal else None, width=60)
    look = Look(DataSettings(sources=(source,), holdout_one_in=2))
    with console.capture() as capture:
        for text in show_documents(look, number, heldout_only):
            console.print(text, soft_wrap=True)
    return capture.get()


def test_a_document_has_its_source_size_and_fate(folder: Path) -> None:
    first, *lines = printed(folder).splitlines()
    assert first.startswith("0/a.txt  mine, CC0-1.0␛, 42 bytes, ")
    assert first.endswith(" of 2 paragraphs held out, 1 × <|endoftext|>")
    assert lines[:3] == ["    One [red]x[/red].␛[2J", "", "    Two <|endoftext|>."]
    assert lines[-1].startswith("2 of 2 documents read are shown; 3 files read") and "1 binary: c.bin" in lines[-1]


def test_only_the_first_lines_are_shown(folder: Path) -> None:
    shown = printed(folder)
    assert f"Line {LINES_SHOWN // 2 - 1}." in shown and f"Line {LINES_SHOWN // 2}." not in shown and "    …" in shown


def test_only_what_is_held_out(folder: Path) -> None:
    lines = {line.strip() for line in printed(folder, heldout_only=True).splitlines() if line.startswith("    Line")}
    held = [text for i in range(50) if is_held_out(content_key(text := f"Line {i}."), held_keys(2))]
    assert lines == set(held[: LINES_SHOWN // 2])


def test_in_colour_nothing_of_the_text_is_obeyed(folder: Path) -> None:
    shown = printed(folder, is_terminal=True)
    assert "\x1b[2J" not in shown and "[red]x[/red]" in shown
    assert "\x1b[1;35m<|endoftext|>\x1b[0m" in shown


def test_as_many_as_asked_for(folder: Path) -> None:
    assert printed(folder, 1).splitlines()[-1].startswith("1 of 1 documents read are shown")
