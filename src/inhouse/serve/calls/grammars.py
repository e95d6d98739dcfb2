"""The grammars of calls that a model must make: its family's format around the schemas of the arguments."""

import re
from collections.abc import Mapping
from typing import Any

from inhouse.api.wire.tools import Function
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.grammar import Part, json_schema, lark, quoted
from inhouse.serve.calls.formats import Tools

_MOST_CALLS = 16  # in one answer: a model that must call could go on for ever
_JOINS = {"allOf", "anyOf", "oneOf", "$ref", "patternProperties"}  # where not all properties are in sight
_AROUND = {  # before the calls, between two of them, and behind
    "llama": ("", "; ", ""), "mistral": ("", "", ""), "mistral_list": ("[TOOL_CALLS] [", ", ", "]"),
}  # fmt: skip
_WRAPPED = {  # before a function's name, between it and the arguments as JSON, and behind
    "hermes": ('<tool_call>\n{"name": "', '", "arguments": ', "}\n</tool_call>"),
    "llama": ('{"name": "', '", "parameters": ', "}"),
    "mistral": ("[TOOL_CALLS]", "[ARGS]", ""),
    "mistral_list": ('{"name": "', '", "arguments": ', "}"),
}
_TAGGED = {  # around a function's name and arguments; around an argument's name and value
    "qwen3_coder": (
        ("<tool_call>\n<function=", ">\n", "</function>\n</tool_call>"),
        ("<parameter=", ">\n", "\n</parameter>\n"),
    ),
    "glm": (("<tool_call>", "\n", "</tool_call>"), ("<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")),
}


def answer_with_calls(tokenizer: Tokenizer, tools: Tools, content: Part | None) -> tuple[Part, dict[str, Part]]:
    """The calls that must be made, or else either calls or the content; and the parts that it names."""
    writer = _Writer(tokenizer, tools)
    functions = tools.must_call or tools.functions
    names = [writer.rule(writer.call(function)) for function in functions]
    before, between, after = map(writer.text, _AROUND.get(tools.format.name, ("", "\n", "")))
    more = f"({between} call){{0,{_MOST_CALLS - 1}}}" if tools.is_parallel else ""
    start = "calls"
    if not tools.must_call and content is not None:
        start, writer.named["content"] = "calls | @content", content
    head = [f"start: {start}", f"calls: {before} call {more} {after}", f"call: {' | '.join(names)}"]
    return lark("\n".join([*head, *writer.rules])), writer.named


class _Writer:
    """Writes the rules of one grammar; `named` are the parts that they name."""

    def __init__(self, tokenizer: Tokenizer, tools: Tools) -> None:
        self.format, self.rules, self.named = tools.format, list[str](), dict[str, Part]()
        ids = {mark: tokenizer.special[mark] for mark in tools.format.marks if mark in tokenizer.special}
        # no text of a grammar matches a special token: these are named by their ids
        self.special = {mark: token for mark, token in ids.items() if token in tokenizer.skipped}

    def rule(self, body: str, attributes: str = "") -> str:
        name = f"r{len(self.rules)}"
        self.rules.append(f"{name}{attributes}: {body}")
        return name

    def text(self, literal: str) -> str:
        """A literal text, with the special tokens in it."""
        if not literal:
            return ""
        marks = "|".join(re.escape(mark) for mark in self.special)
        parts = re.split(f"({marks})", literal) if marks else [literal]
        return " ".join(f"<[{self.special[part]}]>" if part in self.special else quoted(part) for part in parts if part)

    def json(self, schema: Mapping[str, Any]) -> str:
        name = f"json_{len(self.named)}"
        self.named[name] = json_schema(schema, is_lenient=True)
        return f"@{name}"

    def call(self, function: Function) -> str:
        if self.format.name in _WRAPPED:
            before, middle, after = _WRAPPED[self.format.name]
            arguments = self.json(arguments_of(function.parameters))
            return f"{self.text(before + function.name + middle)} {arguments} {self.text(after)}"
        (before, middle, after), tags = _TAGGED[self.format.name]
        known, required = function.parameters.get("properties"), function.parameters.get("required")
        properties = known if isinstance(known, dict) else {}
        arguments = " ".join(
            self.rule(self.argument(name, schema, function.parameters, tags))
            + ("" if isinstance(required, list) and name in required else "?")
            for name, schema in properties.items()
        )
        return f"{self.text(before + function.name + middle)} {arguments} {self.text(after)}"

    def argument(self, name: str, schema: Any, parameters: Mapping[str, Any], tags: tuple[str, str, str]) -> str:
        """One argument in tags of its own: text where it is a string, else JSON."""
        before, middle, after = tags
        head = self.text(before + name + middle)
        if not isinstance(schema, dict) or schema.get("type") != "string":
            shared = {key: parameters[key] for key in ("$defs", "definitions") if key in parameters}
            value = self.json(shared | (schema if isinstance(schema, dict) else {}))
            return f"{head} {value} {self.text(after)}"
        options = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(options, list) and options and all(isinstance(option, str) for option in options):
            return f"{head} ({' | '.join(quoted(option) for option in options)}) {self.text(after)}"
        if any(mark in after for mark in self.special):
            return f"{head} {self.rule('/(?s:.*)/')} {self.text(after)}"
        close = quoted(after.lstrip())  # alone: an empty text ends at once, and the reader takes the line break off
        return f"{head} {self.rule('/(?s:.*)/', f'[suffix={close}]')}"


def arguments_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of the arguments: an object, without properties that nobody asked for where that is in sight."""
    closed = {} if schema.keys() & _JOINS else {"properties": {}, "additionalProperties": False}
    return closed | {"type": "object"} | {key: value for key, value in schema.items() if value is not None}
