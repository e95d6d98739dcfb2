"""The environments that come with inhouse, by name. A new one is a file of its own and its name here."""

from difflib import get_close_matches

from inhouse.environments.algebra import ALGEBRA
from inhouse.environments.arithmetic import ADDITION, SUBTRACTION
from inhouse.environments.brackets import BRACKETS
from inhouse.environments.environment import Dial, Environment
from inhouse.environments.library import LIBRARY
from inhouse.environments.long_arithmetic import PRODUCTS, SUMS
from inhouse.environments.programs import PROGRAMS
from inhouse.environments.strings import STRINGS
from inhouse.environments.transformations import TRANSFORMATIONS
from inhouse.environments.word_problems import WORD_PROBLEMS

# in the order in which fine-tuning and evaluation take them, whatever the order of a recipe's keys
ENVIRONMENTS = {each.name: each for each in (ADDITION, SUBTRACTION, BRACKETS, STRINGS, LIBRARY)}

DIALS = {each.name: each for each in (SUMS, PRODUCTS, ALGEBRA, TRANSFORMATIONS, PROGRAMS, WORD_PROBLEMS)}


def environment_of(name: str) -> Environment:
    """The environment of a name: one of `ENVIRONMENTS`, or a dial and a level, `sums:3`.

    Raises `ValueError` saying which there are.
    """
    kind, _, level = name.partition(":")
    if kind in DIALS:
        dial: Dial = DIALS[kind]
        if not level.isdecimal():
            raise ValueError(f'"{name}" has no level: {kind}:1 is the easiest, {kind}:{dial.levels} the hardest')
        return dial.at(int(level))
    if name not in ENVIRONMENTS:
        dials = ", ".join(f"{each.name}:1 to :{each.levels}" for each in DIALS.values())
        raise ValueError(f'there is no environment "{name}"; there are {", ".join(ENVIRONMENTS)}, and {dials}')
    return ENVIRONMENTS[name]


def check_name(name: str) -> str:
    """The name of an environment, itself. Raises `ValueError` saying which there are, and which one is like it."""
    if name not in ENVIRONMENTS:
        near = get_close_matches(name, ENVIRONMENTS, n=1)
        meant = f'did you mean "{near[0]}"? ' if near else ""
        raise ValueError(f'there is no environment "{name}"; {meant}there are {", ".join(ENVIRONMENTS)}')
    return name
