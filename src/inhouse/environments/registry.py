"""The environments by name. A new one that comes with inhouse is a file of its own and its name here.

addition                     as it comes
sums:3                       a dial at a level
questions:FILE.jsonl         a file's own questions, judged as that verifier does
reasoning_gym:NAME           a data set of that package, where it is installed
verifiers:PACKAGE@FOLDER     an environment of that library, in the virtual environment FOLDER
products:6+calculator        any of them, with a tool to be called before the answer
"""

from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from inhouse.environments.algebra import ALGEBRA
from inhouse.environments.arithmetic import ADDITION, SUBTRACTION
from inhouse.environments.brackets import BRACKETS
from inhouse.environments.environment import Dial, Environment
from inhouse.environments.foreign.reasoning_gym import reasoning_gym
from inhouse.environments.foreign.verifiers import verifiers
from inhouse.environments.library import LIBRARY
from inhouse.environments.long_arithmetic import PRODUCTS, SUMS
from inhouse.environments.made.function_calls import FUNCTION_CALLS
from inhouse.environments.made.functions import FUNCTIONS
from inhouse.environments.made.instructions import INSTRUCTIONS
from inhouse.environments.programs import PROGRAMS
from inhouse.environments.sandbox.shared import VERDICT_SECONDS, shared_sandbox
from inhouse.environments.strings import STRINGS
from inhouse.environments.tools import TOOLS
from inhouse.environments.transformations import TRANSFORMATIONS
from inhouse.environments.verifiers.bbh import BBH
from inhouse.environments.verifiers.gsm8k import GSM8K
from inhouse.environments.verifiers.human_eval import human_eval
from inhouse.environments.verifiers.ifeval import IFEVAL
from inhouse.environments.verifiers.questions import QUESTIONS
from inhouse.environments.verifiers.verifier import file_environment
from inhouse.environments.word_problems import WORD_PROBLEMS

# in the order in which fine-tuning and evaluation take them, whatever the order of a recipe's keys
ENVIRONMENTS = {each.name: each for each in (ADDITION, SUBTRACTION, BRACKETS, STRINGS, LIBRARY)}

DIALS = {
    each.name: each
    for each in (
        SUMS, PRODUCTS, ALGEBRA, TRANSFORMATIONS, PROGRAMS, WORD_PROBLEMS, INSTRUCTIONS, FUNCTION_CALLS, FUNCTIONS,
    )
}  # fmt: skip
FILES = {each.name: each for each in (QUESTIONS, GSM8K, BBH, IFEVAL, human_eval(shared_sandbox()))}
_RUN_PROGRAMS = ("human_eval",)  # of the files: their verifiers bound themselves
_CHECKED = 20  # problems whose worked replies must be worth everything, before anything is learnt from them


def environment_of(name: str) -> Environment:
    """The environment of a name. Raises `ValueError` where there is none, saying which there are."""
    check_name(name)
    plain, tools = _parted(name)
    kind, _, rest = plain.partition(":")
    if kind in DIALS:
        environment = DIALS[kind].at(int(rest))
    elif kind in FILES:
        environment = file_environment(FILES[kind], Path(rest))
        environment = environment._replace(seconds=VERDICT_SECONDS if kind in _RUN_PROGRAMS else None)
    elif kind == "reasoning_gym":
        environment = reasoning_gym(rest)
    elif kind == "verifiers":
        package, _, folder = rest.partition("@")
        environment = verifiers(package, Path(folder))
    else:
        environment = ENVIRONMENTS[plain]
    return (
        environment._replace(name=name, tools=tuple(TOOLS[tool] for tool in tools))
        if name != environment.name
        else environment
    )


def environments_of(names: Collection[str]) -> list[Environment]:
    """Those of these names: first the ones without a level in their order, then all others by their names."""
    others = sorted(set(names) - ENVIRONMENTS.keys())
    return [environment_of(name) for name in [*(name for name in ENVIRONMENTS if name in names), *others]]


def checked_environment(name: str, data: Path | None = None) -> Environment:
    """The environment of a name, of which a model can learn: it has problems, and its verifier knows a right reply.

    Raises `ValueError` where its worked replies are not worth everything, or nothing scores replies, or nothing is
    asked, or this machine lacks what it needs.
    """
    environment = environment_of(name)
    if environment.score is None:
        raise ValueError(f"the environment {name} has no verifier, so no reply to its problems can be rewarded")
    problems = list(islice(environment.draw("train", _CHECKED, 0, data), _CHECKED))
    if not problems:
        raise ValueError(f"the environment {name} has no problems to train on")
    for number, problem in enumerate(problems, 1):
        grade = environment.score(problem, problem.worked) if problem.worked else None
        if grade is not None and grade.score < 1:
            raise ValueError(
                f"the environment {name} is not to be learnt from: it gives its own worked reply to problem {number} "
                f"{grade.score:g}, not 1 ({grade.why})"
            )
    return environment


def file_of(name: str) -> Path | None:
    """The file, or the folder, that an environment's name has in it, if any."""
    kind, _, rest = _parted(name)[0].partition(":")
    place = rest if kind in FILES else rest.partition("@")[2] if kind == "verifiers" else ""
    return Path(place) if place else None


def with_file(name: str, path: Path) -> str:
    """The name with another place of its file or folder."""
    plain, tools = _parted(name)
    before = plain.partition("@")[0] + "@" if plain.startswith("verifiers:") else plain.partition(":")[0] + ":"
    return "+".join([f"{before}{path}", *tools])


def label(name: str) -> str:
    """What scores and pages call it: without the folders that its file lies in."""
    place = file_of(name)
    return name if place is None else with_file(name, Path(place.name))


def check_name(name: str) -> str:
    """The name of an environment, itself. Raises `ValueError` saying which there are, and which one is like it.

    Whether a file is there, or a package, is not looked at: another machine may have it.
    """
    kind, _, rest = _parted(name)[0].partition(":")
    if kind in DIALS:
        dial: Dial = DIALS[kind]
        if not rest.isdecimal():
            raise ValueError(f'"{name}" has no level: {kind}:1 is the easiest, {kind}:{dial.levels} the hardest')
        dial.at(int(rest))
    elif kind in FILES:
        if not rest:
            raise ValueError(f'"{name}" names no file: {kind}:FILE.jsonl')
    elif kind == "reasoning_gym":
        if not rest:
            raise ValueError(f'"{name}" names no data set: reasoning_gym:NAME')
    elif kind == "verifiers":
        if not all(rest.partition("@")):
            raise ValueError(f'"{name}" names no folder: verifiers:PACKAGE@FOLDER')
    elif _parted(name)[0] not in ENVIRONMENTS:
        near = get_close_matches(kind, [*ENVIRONMENTS, *DIALS, *FILES], n=1)
        meant = f'did you mean "{near[0]}"? ' if near else ""
        raise ValueError(f'there is no environment "{name}"; {meant}there are {known_names()}')
    return name


def known_names() -> str:
    """All that there are, as a sentence has them."""
    dials = [f"{each.name}:1 to :{each.levels}" for each in DIALS.values()]
    others = [*(f"{kind}:FILE" for kind in FILES), "reasoning_gym:NAME"]
    return f"{', '.join([*ENVIRONMENTS, *dials, *others])}, and verifiers:PACKAGE@FOLDER"


def _parted(name: str) -> tuple[str, list[str]]:
    """A name without its tools, and these."""
    plain, *added = name.split("+")
    tools: list[str] = []
    while added and added[-1] in TOOLS:
        tools.insert(0, added.pop())
    return "+".join([plain, *added]), tools
