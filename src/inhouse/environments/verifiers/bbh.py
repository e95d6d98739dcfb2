"""BIG-Bench Hard (Suzgun et al. 2022): what stands behind `the answer is` is the target, to the letter.

Lenient: whatever the case, the brackets and quotation marks around it, spaces and a full stop; and `(B) the sun` for
`(B)`, since a model that names the option also repeats it.
"""

import re

from inhouse.environments.environment import Grade, Problem, compared
from inhouse.environments.verifiers.verifier import Row, Verifier

_SAID = re.compile(r"(?i)\bthe answer is[: ]*([^\n]*)")
_OPTION = re.compile(r"\(([A-Z])\)")


def bbh_problem(row: Row) -> Problem:
    """Of one of a file's `examples`, with `input` and `target`."""
    return Problem(row["input"], f"So the answer is {row['target']}.", row["target"])


def strict(problem: Problem, reply: str) -> Grade:
    said = _SAID.search(reply)
    if said is None:
        return Grade(0.0, False, 'it nowhere says "the answer is"')
    return compared(said[1].strip().removesuffix("."), problem.answer)


def lenient(problem: Problem, reply: str) -> Grade:
    said = _SAID.findall(reply)
    found = said[-1] if said else reply.strip().rsplit("\n", 1)[-1]
    target = problem.answer or ""
    if _OPTION.fullmatch(target) and (option := _OPTION.search(found)):
        found = option[0]
    return compared(_plain(found), _plain(target))._replace(is_parsed=bool(said))


def _plain(text: str) -> str:
    """`**"Yes".**` is `yes`; the brackets of an answer that is itself brackets stay."""
    bare = text.strip().strip("*\"'`").strip().removesuffix(".").strip("*\"'` ")
    if inside := re.fullmatch(r"\((\w+)\)", bare):
        bare = inside[1]
    return " ".join(bare.lower().split())


BBH = Verifier("bbh", bbh_problem, strict, lenient)
