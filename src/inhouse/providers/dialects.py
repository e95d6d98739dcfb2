"""The dialects by name. A new one is a file of its own and its name here."""

from difflib import get_close_matches

from inhouse.providers.adapter import Adapter
from inhouse.providers.anthropic import ANTHROPIC
from inhouse.providers.openai import OPENAI

DIALECTS = {"openai": OPENAI, "anthropic": ANTHROPIC}


def dialect(name: str) -> Adapter:
    """Raises `ValueError` saying which there are."""
    if name not in DIALECTS:
        near = get_close_matches(name, DIALECTS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f'there is no dialect "{name}"; {meant}there are {", ".join(DIALECTS)}')
    return DIALECTS[name]
