"""What an answer must be: from the fields of a request to a grammar for the engine, compiled before it is queued."""

import json
import time
from collections.abc import Callable
from typing import Any

from inhouse.api.errors import ApiError
from inhouse.api.wire.forms import MAX_GRAMMAR, ResponseFormat, StructuredOutputs
from inhouse.api.wire.generation import GenerationRequest
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.grammar import BusyError, Part, choice, grammar, json_schema, lark, regex
from inhouse.serve.answer import Reading
from inhouse.serve.calls.formats import Tools
from inhouse.serve.calls.grammars import answer_with_calls, arguments_of
from inhouse.serve.reasoning import CLOSE
from inhouse.serve.served import Served

_SEARCH = 5.0  # seconds, for the tool whose parameters are at fault


def content_of(body: GenerationRequest, response_format: ResponseFormat | None = None) -> tuple[str, Part] | None:
    """What the text of an answer must be, after the name of the field that says so; None: any text.

    Raises `ApiError` naming the field.
    """
    if body.structured_outputs is not None:
        return _checked("structured_outputs", lambda said: _part(said), body.structured_outputs)
    if response_format is None or response_format.type == "text":
        return None
    schema = response_format.json_schema.schema_ if response_format.json_schema else {"type": "object"}
    return _checked("response_format", json_schema, schema)


def _checked(param: str, build: Callable[[Any], Part], said: Any) -> tuple[str, Part]:
    try:
        part = build(said)
    except ValueError as error:
        raise _refusal(param, error) from error
    if len(json.dumps(part)) > MAX_GRAMMAR:
        raise _refusal(param, f"it is longer than {MAX_GRAMMAR} characters")
    return param, part


def _part(said: StructuredOutputs) -> Part:
    if said.json_schema is not None:
        return json_schema(said.json_schema)
    if said.regex is not None:
        return regex(said.regex)
    return choice(said.choice) if said.choice is not None else lark(said.grammar or "")


def compile_grammar(served: Served, content: tuple[str, Part] | None, reading: Reading | None = None) -> str | None:
    """The grammar of an answer with this content, its thinking and its calls; None where any text will do.

    May take seconds: not for the event loop. Raises `ApiError` for what cannot be followed.
    """
    param, part = content or ("tools", None)
    tools = reading.tools if reading else None
    named: dict[str, Part] = {}
    calls = tools if tools is not None and (tools.must_call or part is not None) else None
    if part is None and calls is None:
        return None
    try:
        if calls is not None:
            param = param if content and not calls.must_call else "tools"
            part, named = answer_with_calls(served.tokenizer, calls, part)
        if part is not None and reading is not None and reading.is_thinking:
            named["answer"], part = part, _thinking(served.tokenizer)
        text = grammar(part or {}, **named)
        served.engine.grammars.check(text)
    except BusyError:
        message = "Too many new grammars are being compiled; try again in a few seconds."
        raise ApiError(503, message, code="grammars_busy", headers={"retry-after": "5"}) from None
    except ValueError as error:
        raise (_tool_at_fault(served, calls) if calls else None) or _refusal(param, error) from error
    return text


def _thinking(tokenizer: Tokenizer) -> Part:
    """What a prompt that has opened the thinking leads to before anything else."""
    end = tokenizer.special.get(CLOSE)
    if end in tokenizer.skipped:  # no text of a grammar matches a special token
        return lark(f"start: thinking <[{end}]> /\\s{{0,4}}/ @answer\nthinking: /(?s:.*)/")
    return lark(f'start: thinking /\\s{{0,4}}/ @answer\nthinking[suffix="{CLOSE}"]: /(?s:.*)/')


def _tool_at_fault(served: Served, tools: Tools) -> ApiError | None:
    """About the first tool whose parameters alone cannot be followed, as far as that is found in a few seconds."""
    end = time.monotonic() + _SEARCH
    for number, function in enumerate(tools.functions):
        if tools.must_call and function not in tools.must_call:
            continue
        if time.monotonic() > end:
            return None
        try:
            served.engine.grammars.check(grammar(json_schema(arguments_of(function.parameters), is_lenient=True)))
        except ValueError as error:
            return _refusal(f"tools[{number}].function.parameters", error)
        except BusyError:
            return None
    return None


def _refusal(param: str, why: object) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {str(why).rstrip('.')}.", param=param, code="invalid_value")
