"""The tools of one request, whatever its endpoint: which may or must be called, and how the model writes a call."""

import json
from collections import Counter
from collections.abc import Sequence

from inhouse.api.errors import ApiError
from inhouse.api.wire.forms import MAX_GRAMMAR
from inhouse.api.wire.tools import MAX_NAMED_TOOLS, Function
from inhouse.serve.calls.formats import Tools, format_of
from inhouse.serve.served import Served


def tools_of(
    served: Served,
    functions: Sequence[Function],
    choice: str = "auto",
    name: str = "",
    is_parallel: bool = True,
    allowed: Sequence[str] | None = None,
) -> Tools | None:
    """The tools of a request; None where there are none to show to the model.

    `choice` is "auto", "none", "required", or "function": the one called `name`. Where some are `allowed`, the others
    are not shown. Raises `ApiError`.
    """
    names = [function.name for function in functions]
    if len(names) > MAX_NAMED_TOOLS:
        raise _wrong("tools", f"at most {MAX_NAMED_TOOLS} are allowed")
    if twice := next((each for each, count in Counter(names).items() if count > 1), None):
        raise _wrong("tools", f"two functions are called '{twice}'")
    for each in allowed if allowed is not None else [name] if choice == "function" else []:
        if each not in names:
            raise _wrong("tool_choice", f"there is no tool called '{each}'")
    if allowed is not None:
        functions = [function for function in functions if function.name in allowed]
    if choice == "required" and not names:
        raise _wrong("tool_choice", "there are no tools")
    if not names or choice == "none":
        return None
    if len(json.dumps([function.parameters for function in functions])) > MAX_GRAMMAR:
        raise _wrong("tools", f"their parameters are longer than {MAX_GRAMMAR} characters")
    format = format_of(served.chat_template or "")
    if format is None:
        why = f"The chat template of '{served.name}' has no tools, or calls them in a way that is not read here."
        raise ApiError(400, why, param="tools", code="unsupported_parameter")
    must_call = {"required": tuple(functions), "function": tuple(f for f in functions if f.name == name)}
    return Tools(tuple(functions), format, must_call.get(choice, ()), is_parallel and choice != "function")


def _wrong(param: str, why: str) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")
