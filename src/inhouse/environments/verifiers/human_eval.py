"""HumanEval (Chen et al. 2021): a function from its signature and docstring, right where its unit tests pass.

The tests run in the sandbox, in a process of their own. A reply may be a completion, which goes on where the prompt
ended, or a chat model's whole function in a fenced block; then the prompt's imports and helpers stand before it.
"""

import json

from inhouse.environments.environment import Grade, Problem
from inhouse.environments.sandbox.sandbox import Sandbox
from inhouse.environments.verifiers.code import body_of, code_of, defines
from inhouse.environments.verifiers.verifier import Row, Verifier

_CHAT = (
    "Complete the following Python function. Answer with the whole function in one block of code.\n\n```python\n{}```"
)


def human_eval_problem(row: Row) -> Problem:
    """Of a row with `prompt`, `entry_point`, `canonical_solution` and `test`. The answer holds what grading needs."""
    answer = {key: row[key] for key in ("prompt", "entry_point", "test")}
    return Problem(row["prompt"], row["canonical_solution"], json.dumps(answer))


def chat_problem(row: Row) -> Problem:
    """The same as a request to a chat model."""
    problem = human_eval_problem(row)
    worked = f"```python\n{row['prompt']}{row['canonical_solution']}```"
    return problem._replace(prompt=_CHAT.format(row["prompt"].rstrip() + "\n"), worked=worked)


def solution_of(prompt: str, entry_point: str, reply: str) -> str:
    """The program that a reply makes of the prompt."""
    code = code_of(reply, entry_point)
    if defines(code, entry_point):
        return f"{prompt}\n\n{code}"  # the prompt's own definition, a docstring alone, is replaced
    return prompt + body_of(code)


def human_eval(sandbox: Sandbox) -> Verifier:
    """The verifier, with a sandbox to run in; replies in a chat are `chat_problem`'s, and graded alike."""

    def score(problem: Problem, reply: str) -> Grade:
        asked = json.loads(problem.answer or "")
        name = asked["entry_point"]
        solution = solution_of(asked["prompt"], name, reply)
        # the prompt is a whole program: its helpers, which some tests use, and the function as a docstring alone
        outcome = sandbox.check(solution, f"{asked['test']}\ncheck({name})", [name], setup=asked["prompt"])
        is_parsed = not (outcome.why or "").startswith(("SyntaxError", "IndentationError"))
        return Grade(float(outcome.is_done), is_parsed, outcome.why, outcome.is_late)

    return Verifier("human_eval", human_eval_problem, score)
