"""The environments that come with inhouse, by name. A new one is a file of its own and its name here."""

from difflib import get_close_matches

from inhouse.environments.arithmetic import ADDITION, SUBTRACTION
from inhouse.environments.brackets import BRACKETS
from inhouse.environments.library import LIBRARY
from inhouse.environments.strings import STRINGS

# in the order in which fine-tuning and evaluation take them, whatever the order of a recipe's keys
ENVIRONMENTS = {each.name: each for each in (ADDITION, SUBTRACTION, BRACKETS, STRINGS, LIBRARY)}


def check_name(name: str) -> str:
    """The name of an environment, itself. Raises `ValueError` saying which there are, and which one is like it."""
    if name not in ENVIRONMENTS:
        near = get_close_matches(name, ENVIRONMENTS, n=1)
        meant = f'did you mean "{near[0]}"? ' if near else ""
        raise ValueError(f'there is no environment "{name}"; {meant}there are {", ".join(ENVIRONMENTS)}')
    return name
