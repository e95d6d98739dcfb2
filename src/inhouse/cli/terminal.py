"""What verbs share of a terminal: questions, tables, answers as they come, a warning of what is stale."""

import sys
from pathlib import Path
from typing import Any

import typer


def agrees(question: str) -> bool:
    """What the user at the terminal says; no where there is none."""
    return sys.stdin.isatty() and typer.confirm(question)


def print_stream(pieces: Any) -> str:
    text = ""
    for piece in pieces:
        text += piece
        print(piece, end="", flush=True)
    print()
    return text


def ask() -> str | None:
    """The user's next line, or None at the end of the input."""
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def print_rich(renderable: Any, width: int = 140) -> None:
    """To a terminal as wide as it is, elsewhere in lines of `width` characters; what texts hold is no markup."""
    from rich.console import Console

    console = Console(markup=False)
    (console if console.is_terminal else Console(width=width, markup=False)).print(renderable)


def warn_of_stale(model: Path) -> None:
    """One line on stderr where a run's model is not what its recipe would make now."""
    from inhouse.common.model_paths import stale_notice

    if notice := stale_notice(model):
        print(notice, file=sys.stderr)
