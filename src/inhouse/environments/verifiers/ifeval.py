"""IFEval (Zhou et al. 2023, arXiv 2311.07911): does a reply follow instructions that a program can check?

Strict: as the reply stands. Loose (section 2.3): an instruction also counts as followed where it is in one of eight
versions of the reply: without its first line, its last, or both, and each of these without asterisks.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from inhouse.environments.environment import Grade, Problem
from inhouse.environments.verifiers.instructions import INSTRUCTIONS, is_followed
from inhouse.environments.verifiers.verifier import Row, Verifier


class Followed(NamedTuple):
    """Of one reply: for each of its instructions, whether it was followed."""

    strict: list[bool]
    loose: list[bool]


class Accuracies(NamedTuple):
    """The four figures of the paper: shares of prompts of which all instructions were followed, and of instructions."""

    prompt_strict: float
    instruction_strict: float
    prompt_loose: float
    instruction_loose: float


def ifeval_problem(row: Row) -> Problem:
    """Of a row with `prompt`, `instruction_id_list` and `kwargs`. No reply is known to be right; `worked` is empty."""
    kinds, givens = row["instruction_id_list"], row["kwargs"]
    if unknown := [kind for kind in kinds if kind not in INSTRUCTIONS]:
        raise ValueError(f'there is no instruction "{unknown[0]}"; there are {", ".join(INSTRUCTIONS)}')
    if not kinds or len(kinds) != len(givens):
        raise ValueError(f"{len(kinds)} instructions, but {len(givens)} descriptions of them (kwargs)")
    answer = [[kind, _checked(kind, _given(given))] for kind, given in zip(kinds, givens, strict=True)]
    return Problem(row["prompt"], "", json.dumps(answer, ensure_ascii=False))


def _given(given: dict[str, Any]) -> dict[str, Any]:
    """What says something: some copies of the data list every name, with null for most."""
    return {name: value for name, value in given.items() if value is not None}


def _checked(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """What is given, itself. Raises `ValueError` where the check of this kind cannot be made with it."""
    try:
        is_followed(kind, given, "x")
    except (TypeError, AttributeError) as wrong:
        raise ValueError(f"{kind} cannot be checked with {given}: {wrong}") from None
    for name, value in given.items():
        if name.endswith("relation") and value not in ("at least", "less than"):
            raise ValueError(f'{kind}: the {name} is "{value}"; it is "at least" or "less than"')
    return given


def followed(problem: Problem, reply: str) -> Followed:
    instructions = json.loads(problem.answer or "[]")
    versions = _versions(reply)
    return Followed(
        [is_followed(kind, given, reply) for kind, given in instructions],
        [any(is_followed(kind, given, each) for each in versions) for kind, given in instructions],
    )


def _versions(reply: str) -> list[str]:
    lines = reply.split("\n")
    cut = ["\n".join(each).strip() for each in (lines[1:], lines[:-1], lines[1:-1])]
    return [version for each in (reply, *cut) for version in (each, each.replace("*", ""))]


def accuracies(replies: Sequence[Followed]) -> Accuracies:
    """Over all replies. Raises `ValueError` where there is none."""
    if not replies:
        raise ValueError("there is no reply to take an accuracy of")
    figures = []
    for of_each in ([each.strict for each in replies], [each.loose for each in replies]):
        instructions = [each for one in of_each for each in one]
        figures += [sum(map(all, of_each)) / len(of_each), sum(instructions) / len(instructions)]
    return Accuracies(*figures)


def strict(problem: Problem, reply: str) -> Grade:
    """The share of the instructions that were followed; the paper's accuracy of prompts counts those with 1."""
    return _grade(problem, followed(problem, reply).strict)


def loose(problem: Problem, reply: str) -> Grade:
    return _grade(problem, followed(problem, reply).loose)


def _grade(problem: Problem, verdicts: list[bool]) -> Grade:
    kinds = [kind for kind, _ in json.loads(problem.answer or "[]")]
    missed = [kind for kind, verdict in zip(kinds, verdicts, strict=True) if not verdict]
    why = f"not followed: {', '.join(missed)}" if missed else None
    return Grade(sum(verdicts) / len(verdicts), True, why)


IFEVAL = Verifier("ifeval", ifeval_problem, strict, loose)
