"""Tools: what a reply asks for, what comes back, and conversations that offer them."""

import pytest

from inhouse.environments.environment import Problem
from inhouse.environments.registry import environment_of
from inhouse.environments.sandbox.shared import shared_sandbox
from inhouse.environments.tools import CALCULATOR, PYTHON, asked, calculate, results, worked
from inhouse.environments.verifiers.calls import written
from inhouse.posttrain.messages import check_messages


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("12 * (3 + 4)", "84"), ("2**10 % 7", "2"), ("2^3", "8"), ("7 / 2", "3.5"), ("1/3", "0.333333333333333"),
        ("-7 // 2", "-4"), ("0.1 + 0.2", "0.3"), ("10**30", "1" + "0" * 30), ("2**-2", "0.25"),
        ("1 / 0", "error: division by zero"), ("2**0.5", "error: the exponent is no whole number"),
        ("9**9**9", "error: the number is too large"), ("10**2000", "error: the number is too large"),
        ("x + 1", "error: numbers, brackets and + - * / // % ** alone can be calculated"),
        ("__import__('os')", "error: numbers, brackets and + - * / // % ** alone can be calculated"),
        ("True + 1", "error: numbers, brackets and + - * / // % ** alone can be calculated"),
    ],
)  # fmt: skip
def test_the_calculator_is_exact_and_bounded(expression, result):
    assert calculate(expression) == result


@pytest.mark.parametrize("expression", ["", "1 +", "(" * 10_000, "1+" * 100_000 + "1", "9" * 5_000, "\0", "1e999"])
def test_no_expression_is_too_much_for_the_calculator(expression):
    assert calculate(expression).startswith("error: ")


def test_results_come_in_the_order_of_the_calls():
    calls = written([("calculator", {"expression": "1 + 1"}), ("oracle", {}), ("calculator", {"text": "2"})])
    told = [message["content"] for message in results([CALCULATOR], f"Let me see. {calls}<tool_call>{{</tool_call>")]
    assert told == [
        "2",
        "error: there is no oracle; there are calculator",
        "error: expression is missing, or no text",
        'error: a call is {"name": …, "arguments": {…}} as JSON',
    ]
    assert len(results([CALCULATOR], calls * 10)) == 8
    assert results([CALCULATOR], "Answer: 2") == results((), calls) == []
    assert results([CALCULATOR], f"<think>{calls}</think>Answer: 2") == []


def test_python_runs_in_the_sandbox():
    try:
        shared_sandbox().run("")
    except ValueError as error:
        pytest.skip(str(error))
    assert PYTHON.run({"code": "print(6 * 7)"}) == "42"
    assert PYTHON.run({"code": "x = 1"}) == "(nothing was printed)"
    assert PYTHON.run({"code": "print(1)\n1 / 0"}).startswith("error: ZeroDivisionError")
    (told,) = results([PYTHON], written([("python", {"code": "print('x' * 9000)"})]))
    assert told == {"role": "tool", "content": "x" * 2_000}


def test_conversations_offer_what_may_be_called():
    plain, with_tool = environment_of("sums:2"), environment_of("sums:2+calculator")
    (problem,) = plain.draw("train", 1, 0, None)
    assert asked(plain, problem) == [{"role": "user", "content": problem.prompt}]
    system, user = asked(with_tool, problem)
    assert system["tools"] == [CALCULATOR.definition]
    assert user == {"role": "user", "content": problem.prompt}
    assert worked(plain, problem) == [user, {"role": "assistant", "content": problem.worked}]

    calls = environment_of("function_calls:2")
    (problem,) = calls.draw("train", 1, 0, None)
    messages = worked(calls, problem)
    check_messages(messages)
    assert len(messages[0]["tools"]) == 4
    assert len(messages[-1]["tool_calls"]) == 1
    with pytest.raises(ValueError, match="calls:2 has problems without a worked reply"):
        worked(calls, Problem("?", ""))
