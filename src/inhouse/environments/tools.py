"""Tools that a model may call while it answers, and what comes back: several turns, of which only its own are learnt.

A reply asks for one as the chat template has it, in `<tool_call>` tags; the result is a message of the role `tool`.
Problems of any environment may be answered with tools: `products:6+calculator`.
"""

import ast
import json
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from inhouse.environments.environment import Environment, Problem, Tool, without_thoughts
from inhouse.environments.sandbox.shared import shared_sandbox
from inhouse.environments.verifiers.calls import parted, read_call

Message = dict[str, Any]
_LONGEST = 2_000  # characters of a result: what a model prints is read by the model again
_MOST_CALLS = 8  # of one turn
_MOST_BITS = 4_000  # of a number of the calculator


def asked(environment: Environment, problem: Problem) -> list[Message]:
    """The messages before the answer: the question, and the tools that may be called, in a system message."""
    tools = [*json.loads(problem.tools or "[]"), *(tool.definition for tool in environment.tools)]
    system = [{"role": "system", "content": "", "tools": tools}] if tools else []
    return [*system, {"role": "user", "content": problem.prompt}]


def worked(environment: Environment, problem: Problem) -> list[Message]:
    """The whole conversation that fine-tuning teaches. Raises `ValueError` where no reply is known to be right."""
    if not problem.worked:
        raise ValueError(f"{environment.name} has problems without a worked reply, so nothing to fine-tune on")
    calls, text = parted(problem.worked) if problem.tools else ([], problem.worked)
    answer: Message = {"role": "assistant", "content": text.strip() if calls else text}
    if made := [call for each in calls if (call := read_call(each)) is not None]:
        answer["tool_calls"] = [{"function": {"name": name, "arguments": arguments}} for name, arguments in made]
    return [*asked(environment, problem), answer]


def results(tools: Sequence[Tool], reply: str) -> list[Message]:
    """What comes back for each call of a reply, in their order; nothing where it calls none: then it is the answer."""
    if not tools:
        return []
    texts = parted(without_thoughts(reply))[0]
    by_name = {tool.definition["function"]["name"]: tool for tool in tools}
    return [{"role": "tool", "content": _result(by_name, text)[:_LONGEST]} for text in texts[:_MOST_CALLS]]


def _result(tools: dict[str, Tool], text: str) -> str:
    call = read_call(text)
    if call is None:
        return 'error: a call is {"name": …, "arguments": {…}} as JSON'
    if call[0] not in tools:
        return f"error: there is no {call[0][:100]}; there are {', '.join(tools)}"
    return tools[call[0]].run(call[1])


def _tool(name: str, description: str, argument: str, what: str, run: Callable[[str], str]) -> Tool:
    """One that takes a text."""
    schema = {
        "type": "object", "properties": {argument: {"type": "string", "description": what}}, "required": [argument],
    }  # fmt: skip
    function = {"name": name, "description": description, "parameters": schema}

    def with_text(arguments: dict[str, Any]) -> str:
        text = arguments.get(argument)
        return run(text) if isinstance(text, str) else f"error: {argument} is missing, or no text"

    return Tool({"type": "function", "function": function}, with_text)


def calculate(expression: str) -> str:
    """The exact value of sums, products, quotients and whole powers, or what is wrong with the expression."""
    try:
        value = _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body)
    except ZeroDivisionError:
        return "error: division by zero"
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        return f"error: {error.msg if isinstance(error, SyntaxError) else error}"
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return f"{float(value):.15g}"
    except OverflowError:
        return "error: the number is too large"


_OPERATORS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.FloorDiv: lambda a, b: Fraction(a // b),
}  # fmt: skip


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            value = Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            value = _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            value = _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            value = _OPERATORS[type(op)](_value(left), _value(right))
        case _:
            raise ValueError("numbers, brackets and + - * / // % ** alone can be calculated")
    if _bits(value) > _MOST_BITS:
        raise ValueError("the number is too large")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ValueError("the exponent is no whole number")
    if _bits(base) * abs(exponent) > 2 * _MOST_BITS:
        raise ValueError("the number is too large")
    return base ** int(exponent)


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length() - 1


def _run_python(code: str) -> str:
    """What a program prints in the sandbox, and how it failed."""
    try:
        outcome = shared_sandbox().run(code)
    except (ValueError, OSError) as error:  # no sandbox on this machine, or no process left: a tool that does not work
        return f"error: {error}"
    failed = f"error: {outcome.why}" if outcome.why else ""
    said = outcome.output[: _LONGEST - len(failed)]
    return "\n".join(part for part in (said.rstrip("\n"), failed) if part) or "(nothing was printed)"


CALCULATOR = _tool(
    "calculator", "Calculates exactly.", "expression", "numbers, brackets and + - * / // % **", calculate
)
PYTHON = _tool("python", "Runs a Python 3 program and gives what it prints.", "code", "the program", _run_python)
TOOLS = {"calculator": CALCULATOR, "python": PYTHON}
