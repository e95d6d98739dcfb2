"""Any file of questions and answers: `{"question": …, "answer": …}` a line, and `worked` where there is a whole reply.

Strict: the last line is `Answer: ` and the answer, to the letter, or as a number where it is one (`1,200` for 1200).
Lenient: whatever its case, spaces and full stop, and without `Answer: `; of numbers the last of the reply.
"""

from inhouse.environments.environment import Grade, Problem, compared, last_answer
from inhouse.environments.verifiers.numbers import number_of, numbers_in
from inhouse.environments.verifiers.verifier import Row, Verifier


def question_problem(row: Row) -> Problem:
    answer = str(row["answer"]).strip()
    if not answer or "\n" in answer:
        raise ValueError(f"the answer is {'empty' if not answer else 'longer than a line'}, so no reply can be checked")
    return Problem(row["question"], row.get("worked") or f"Answer: {answer}", answer)


def strict(problem: Problem, reply: str) -> Grade:
    found = last_answer(reply)
    if found is None:
        return Grade(0.0, False, 'the last line is not "Answer: " and an answer')
    answer = problem.answer or ""
    is_same_number = _is_number(answer) and number_of(found) == number_of(answer)
    return Grade(1.0, True) if is_same_number else compared(found, answer)


def lenient(problem: Problem, reply: str) -> Grade:
    answer = problem.answer or ""
    if _is_number(answer) and numbers_in(reply)[-1:] == [number_of(answer)]:
        return Grade(1.0, True)
    found = last_answer(reply) or reply.strip().rsplit("\n", 1)[-1]
    return compared(_plain(found), _plain(answer))


def _is_number(text: str) -> bool:
    """Whether the text is a number and hardly anything else: `$5` is one, `5 little pigs` is not."""
    return number_of(text) is not None and sum(each.isalpha() for each in text) == 0


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).removesuffix(".")


QUESTIONS = Verifier("questions", question_problem, strict, lenient)
