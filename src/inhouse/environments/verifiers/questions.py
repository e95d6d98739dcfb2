"""Any file of questions and answers: `{"question": …, "answer": …}` a line, and `worked` where there is a whole reply.

Strict: the last line is `Answer: ` and the answer, to the letter, or as a number where it is one (`1,200` for 1200).
Lenient: whatever its case, spaces and full stop, and without `Answer: `; of numbers the last of the reply.
"""

from inhouse.environments.environment import Grade, Problem, compared, is_number, last_answer, lenient_match
from inhouse.environments.numbers import number_of
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
    is_same_number = is_number(answer) and number_of(found) == number_of(answer)
    return Grade(1.0, True) if is_same_number else compared(found, answer)


QUESTIONS = Verifier("questions", question_problem, strict, lenient_match)
