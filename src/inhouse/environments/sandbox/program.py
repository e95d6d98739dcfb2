"""What runs behind the walls: a program by itself, or one that answers calls of another, or the one that calls.

Tests never share an interpreter with what they test. A solution is executed in one process and answers calls there;
the tests run in a second one, where the solution's functions are stand-ins. Over the socket between them (descriptor 0
of both) go the arguments and the results, as plain data. So a solution finds no expected value in any frame, module or
file that it can reach, it can patch nothing that grades it, and an object that equals everything does not get across.
"""

import builtins
import importlib
import json
import os
import random
import socket
import sys
import traceback
import types
from collections.abc import Callable
from io import BufferedRWPair
from typing import Any

from inhouse.environments.sandbox.plain_data import decode, encode

_NAME = "<program>"
_LONGEST_LINE = 1 << 24  # bytes of one call or result
# of a solution, raised again among the tests; not those that mean something to the interpreter (StopIteration, exits)
_ERRORS = (
    "ArithmeticError", "AssertionError", "AttributeError", "IndexError", "KeyError", "LookupError",
    "NotImplementedError", "OverflowError", "RecursionError", "RuntimeError", "TypeError", "ValueError",
    "ZeroDivisionError",
)  # fmt: skip
_OFTEN_IMPORTED = (
    "bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib",
    "heapq", "itertools", "math", "operator", "re", "statistics", "string", "typing",
)  # fmt: skip


def prepare() -> None:
    """Imports, once for all programs to come, what many of them begin with."""
    for name in _OFTEN_IMPORTED:
        importlib.import_module(name)


def run_program(role: str, source: str) -> int:
    """Executes `source` in a role and returns the exit code, 0 where it came to its end.

    `run`: by itself, with its input on descriptor 0. `serve`: then answers calls of its functions. `grade`: with a
    function `remote(name)` that gives the stand-in for a function of the solution.
    """
    sys.path[:] = [each for each in sys.path if "python3" in each]  # the standard library alone
    sys.set_int_max_str_digits(0)
    random.seed(0)
    module = types.ModuleType("__main__" if role == "run" else "solution" if role == "serve" else "tests")
    sys.modules[module.__name__] = module
    try:
        if role == "run":
            exec(compile(source, _NAME, "exec"), module.__dict__)
        else:
            _with_socket(role, source, module.__dict__)
        sys.stdout.flush()
    except SystemExit as ending:
        sys.stdout.flush()
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except MemoryError:
        sys.stderr.write("MemoryError\n")
        return 1
    except BaseException as error:
        _say(error, source)
        os._exit(1)  # at once: what is cleared away now may have something to say too
    return 0


def _with_socket(role: str, source: str, namespace: dict[str, Any]) -> None:
    """The socket closes with the process, so that a solution's error is written when the tests learn of its end."""
    calls = socket.socket(fileno=os.dup(0)).makefile("rwb")
    if role == "grade":
        namespace["remote"] = lambda name: _stand_in(calls, name)
    exec(compile(source, _NAME, "exec"), namespace)
    if role == "serve":
        for line in iter(calls.readline, b""):
            answer = json.dumps(_answer(namespace, json.loads(line))).encode()
            sys.stdout.flush()  # it may be ended as soon as its last answer is there
            calls.write(answer + b"\n")
            calls.flush()


def _answer(namespace: dict[str, Any], call: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"value": encode(namespace[call["name"]](*decode(call["arguments"]), **decode(call["named"])))}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)[:500]}


def _stand_in(calls: BufferedRWPair, name: str) -> Callable[..., Any]:
    def ask(*arguments: Any, **named: Any) -> Any:
        call = {"name": name, "arguments": encode(arguments), "named": encode(named)}
        try:
            calls.write(json.dumps(call).encode() + b"\n")
            calls.flush()
            line = calls.readline(_LONGEST_LINE)
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise RuntimeError("the solution ended" if not line else "the solution's result is too long")
        answer = json.loads(line)
        if "error" in answer:
            kind = answer["error"] if answer["error"] in _ERRORS else "RuntimeError"
            raise getattr(builtins, kind)(f"{answer['error']}: {answer['text']}")
        return decode(answer["value"])

    ask.__name__ = name
    return ask


def _say(error: BaseException, source: str) -> None:
    """The error and the line of the program where it came from, on one line of the errors."""
    lines = source.split("\n")
    numbers = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _NAME]
    text = traceback.format_exception_only(error)[-1].strip().replace("\n", " ")
    place = f" at: {lines[numbers[-1] - 1].strip()}" if numbers and numbers[-1] and numbers[-1] <= len(lines) else ""
    sys.stderr.write(f"{text[:1000]}{place[:1000]}\n")
