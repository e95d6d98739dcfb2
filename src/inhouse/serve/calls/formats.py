"""How models write calls of tools: the formats that chat templates teach, and how a call in each is read.

Which one a model writes is seen by its template's text.
"""

import json
import re
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from inhouse.api.wire.tools import Function
from inhouse.serve.calls.types import typed

Parameters = Mapping[str, Mapping[str, Any]]  # of each function, its JSON schema
_ID_LETTERS = string.ascii_letters + string.digits


class Call(NamedTuple):
    """One call of a tool; `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


class More(NamedTuple):
    """The arguments of the latest call go on."""

    arguments: str


class Streamed(NamedTuple):
    """How a call is read while it comes: `head` matches up to its arguments, an object, and names the function; what
    stands behind them up to `end`, where there is one, is dropped, but for further calls."""

    head: re.Pattern[str]
    end: str


class ToolFormat(NamedTuple):
    """`parse` reads what stands from an opening to the end of a closing mark, both included, as (name, arguments)
    of one or more calls; it raises `ValueError` where that is no call."""

    name: str
    openings: tuple[str, ...]
    close: str  # "": only the end of the answer closes it
    only_at_start: bool  # of an answer: its openings are letters that any text may contain
    marks: tuple[str, ...]  # that some tokenizers have as special tokens
    parse: Callable[[str, Parameters], list[tuple[str, dict[str, Any]]]]
    id_letters: int = 0  # of a call's id, where a template asks for a length
    streamed: Streamed | None = None  # None: a call is given when it is whole

    def read(self, text: str, parameters: Parameters) -> list[Call]:
        """Raises `ValueError` as `parse` does, and for what is no JSON that a client could read."""
        return [
            Call(self.new_id(), name, _dumps([name, arguments])) for name, arguments in self.parse(text, parameters)
        ]

    def new_id(self) -> str:
        if not self.id_letters:
            return f"call_{secrets.token_hex(12)}"
        return "".join(secrets.choice(_ID_LETTERS) for _ in range(self.id_letters))


class Tools(NamedTuple):
    """What may be called. The model decides whether it calls, unless it `must_call` one of some."""

    functions: tuple[Function, ...]
    format: ToolFormat
    must_call: tuple[Function, ...] = ()
    is_parallel: bool = True  # several calls in one answer

    @property
    def parameters(self) -> Parameters:
        return {function.name: function.parameters for function in self.functions}


def _dumps(call: list[Any]) -> str:
    """The arguments of [name, arguments]."""
    json.dumps(call, ensure_ascii=False, allow_nan=False).encode()  # half of a surrogate pair raises: it is no text
    return json.dumps(call[1], ensure_ascii=False)


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _loads(text: str) -> Any:
    try:
        return json.loads(text, strict=False, parse_constant=_no_number)  # models write line breaks into strings
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _call(value: Any) -> tuple[str, dict[str, Any]]:
    """{"name": …, "arguments": {…}}; Llama says `parameters`, some models write the object as a string, or all of it
    under `function`, as the API has it."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise ValueError("no name")
    arguments = value.get("arguments", value.get("parameters")) or {}
    arguments = _loads(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(arguments, dict):
        raise ValueError("the arguments are no object")
    return value["name"], arguments


def _objects(text: str, between: str) -> list[Any]:
    """The values of a text that holds nothing else, with at most one of these letters between two."""
    values, decoder = [], json.JSONDecoder(strict=False, parse_constant=_no_number)
    try:
        while text := text.lstrip():
            value, end = decoder.raw_decode(text)
            values.append(value)
            text = text[end:].lstrip()
            text = text[1:] if text[:1] and text[0] in between else text
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not values:
        raise ValueError("no call")
    return values


def _hermes(text: str, parameters: Parameters) -> list[tuple[str, dict[str, Any]]]:
    """One object in its tags; some models write several there, or a list."""
    values = _objects(text.removeprefix("<tool_call>").removesuffix("</tool_call>"), ",;")
    flat = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return [_call(each) for each in flat] or _no_call()


def _no_call() -> NoReturn:
    raise ValueError("no call")


def _llama(text: str, parameters: Parameters) -> list[tuple[str, dict[str, Any]]]:
    """One object, or several with semicolons between them."""
    calls = []
    for value in _objects(text.strip().removeprefix("<|python_tag|>"), ";"):
        if not isinstance(value, dict) or not value.keys() & {"parameters", "arguments"}:
            raise ValueError("any object may have a name")
        calls.append(_call(value))
    return calls


def _mistral(text: str, parameters: Parameters) -> list[tuple[str, dict[str, Any]]]:
    """`[TOOL_CALLS][{…}, …]`, or for each call `[TOOL_CALLS]name[ARGS]{…}`, in some `[CALL_ID]id` after the name.

    Where a later one was cut off, those before it stand.
    """
    calls = []
    try:
        for part in text.split("[TOOL_CALLS]")[1:]:
            head, found, arguments = part.partition("[ARGS]")
            if found:
                calls.append(_call({"name": head.partition("[CALL_ID]")[0].strip(), "arguments": arguments}))
            else:
                calls += map(_call, _listed(part))
    except ValueError:
        if not calls:
            raise
    if not calls:
        raise ValueError("no call")
    return calls


def _listed(text: str) -> Iterator[Any]:
    """The values of a list, one after the other, or a value alone; raises `ValueError` at what is none."""
    text, decoder = text.strip(), json.JSONDecoder(strict=False, parse_constant=_no_number)
    if not text.startswith("["):
        yield _loads(text)
        return
    rest = text[1:].lstrip()
    try:
        while rest and not rest.startswith("]"):
            value, end = decoder.raw_decode(rest)
            yield value
            rest = rest[end:].lstrip().removeprefix(",").lstrip()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if rest != "]":
        raise ValueError("the list does not end")


_CODER_CALL = re.compile(r"<tool_call>\s*<function=([^>\n]+)>(.*)</function>\s*</tool_call>", re.DOTALL)
_CODER_VALUE = re.compile(r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>\s*", re.DOTALL)
_GLM_CALL = re.compile(r"<tool_call>\s*([^<\n]+?)\s*(<arg_key>.*)?</tool_call>", re.DOTALL)
_GLM_VALUE = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>\s*", re.DOTALL)


def _tagged(
    call: re.Pattern[str], value: re.Pattern[str]
) -> Callable[[str, Parameters], list[tuple[str, dict[str, Any]]]]:
    """Reads the formats that write each argument in tags of its own."""

    def parse(text: str, parameters: Parameters) -> list[tuple[str, dict[str, Any]]]:
        found = call.fullmatch(text.strip())
        if found is None:
            raise ValueError("no call")
        name, rest, place = found[1].strip(), found[2] or "", 0
        root = parameters.get(name, {})
        known = properties if isinstance(properties := root.get("properties"), dict) else {}
        arguments: dict[str, Any] = {}
        while place < len(rest.rstrip()):
            argument = value.match(rest, place)
            if argument is None:
                raise ValueError("no argument")
            key, place = argument[1].strip(), argument.end()
            arguments[key] = typed(argument[2], known.get(key), root, _loads)
        return [(name, arguments)]

    return parse


def _streamed(before: str, end: str = "") -> Streamed:
    """Of the formats in which a call is an object that begins with the name."""
    rest = r'\s*\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
    return Streamed(re.compile(before + rest), end)


_TAGS = ("<tool_call>", "</tool_call>")
_HERMES_HEAD, _LLAMA_HEAD = _streamed("<tool_call>", _TAGS[1]), _streamed(r"(?:<\|python_tag\|>)?")
# our own template's, and Qwen2.5's and 3's
HERMES = ToolFormat("hermes", _TAGS[:1], _TAGS[1], False, _TAGS, _hermes, 0, _HERMES_HEAD)
QWEN3_CODER = ToolFormat("qwen3_coder", _TAGS[:1], _TAGS[1], False, _TAGS, _tagged(_CODER_CALL, _CODER_VALUE))
_ARGUMENT_TAGS = ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")
GLM = ToolFormat("glm", _TAGS[:1], _TAGS[1], False, _TAGS + _ARGUMENT_TAGS, _tagged(_GLM_CALL, _GLM_VALUE))
LLAMA = ToolFormat("llama", ("<|python_tag|>", "{"), "", True, ("<|python_tag|>",), _llama, 0, _LLAMA_HEAD)
_MISTRAL_MARKS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")
_LIST_HEAD = _streamed(r"\[TOOL_CALLS\]\s*\[?", "]")
MISTRAL_LIST = ToolFormat("mistral_list", _MISTRAL_MARKS[:1], "", False, _MISTRAL_MARKS, _mistral, 9, _LIST_HEAD)
_ARGS_HEAD = Streamed(re.compile(r"\[TOOL_CALLS\]\s*([^\s\[{]+)\s*(?:\[CALL_ID\][^\[{]*)?\[ARGS\]\s*(?=\{)"), "")
MISTRAL = ToolFormat("mistral", _MISTRAL_MARKS[:1], "", False, _MISTRAL_MARKS, _mistral, 9, _ARGS_HEAD)


def format_of(template: str) -> ToolFormat | None:
    """The format that a chat template teaches, None where it knows of no tools."""
    signs = (
        ("[ARGS]", MISTRAL), ("[TOOL_CALLS]", MISTRAL_LIST), ("<function=", QWEN3_CODER), ("<arg_key>", GLM),
        ("<tool_call>", HERMES), ('"parameters": ', LLAMA),
    )  # fmt: skip
    if "tools" not in template:
        return None
    return next((found for sign, found in signs if sign in template), None)
