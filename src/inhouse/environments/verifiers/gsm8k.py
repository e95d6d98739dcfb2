"""GSM8K (Cobbe et al. 2021): word problems of primary school, with a number for an answer.

Strict, as its authors and lm-eval judge: the number behind the first `####`, since a base model that has answered goes
on with problems of its own. Lenient: what stands behind the last `####`, else in the last `\\boxed{}`, else behind the
last `answer is`, else the last number of the reply. Both compare values, not letters: `1,000`, `$1000.00` and `1000`
are one number.
"""

import re
from fractions import Fraction

from inhouse.environments.environment import Grade, Problem
from inhouse.environments.numbers import number_of, numbers_in
from inhouse.environments.verifiers.verifier import Row, Verifier

_MARK = re.compile(r"####([^\n]*)")
_SAID = (re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"), re.compile(r"(?i)\banswer\s*(?:is|=|:)([^\n]*)"))


def gsm8k_problem(row: Row) -> Problem:
    """Of a row with `question` and `answer`, whose last line is `#### n`; the working in `<<…>>` is left out."""
    worked = re.sub(r"<<[^<>]*>>", "", row["answer"])
    marked = _MARK.findall(worked)
    if not marked or number_of(marked[-1]) is None:
        raise ValueError('the answer does not end with "#### " and one number')
    return Problem(row["question"], worked, marked[-1].strip())


def strict(problem: Problem, reply: str) -> Grade:
    marked = _MARK.findall(reply)
    if not marked:
        return Grade(0.0, False, 'no line with "####"')
    numbers = numbers_in(marked[0])
    if not numbers:
        return Grade(0.0, False, f'no number behind "####", but "{marked[0].strip()[:100]}"')
    return _compared(numbers[0], problem)


def lenient(problem: Problem, reply: str) -> Grade:
    for said in (_MARK, *_SAID):
        if (found := said.findall(reply)) and (numbers := numbers_in(found[-1])):
            return _compared(numbers[0], problem)
    numbers = numbers_in(reply)
    return _compared(numbers[-1], problem) if numbers else Grade(0.0, False, "no number in the reply")


def _compared(number: Fraction, problem: Problem) -> Grade:
    if number == number_of(problem.answer or ""):
        return Grade(1.0, True)
    return Grade(0.0, True, f"{float(number):g} is not {problem.answer}")


GSM8K = Verifier("gsm8k", gsm8k_problem, strict, lenient)
