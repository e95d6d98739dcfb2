"""Messages as everything here knows them: OpenAI's, with the tools that may be called in the system message.

Beside `role` and `content` an assistant's message may have `reasoning_content`, `tool_calls` and `weight` (0: it is
not trained on), a tool's the `tool_call_id` of the call that it answers, a system message `tools`. A `name` is accepted
and not rendered, as in the templates of others.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

_DEEPEST = 100  # levels of a tool's parameters, or of a call's arguments
ROLES = ("system", "user", "assistant", "tool")
Message = dict[str, Any]

_OWNERS = {  # who may have a key
    "reasoning_content": "assistant", "tool_calls": "assistant", "weight": "assistant",
    "tool_call_id": "tool", "tools": "system",
}  # fmt: skip
_DEFINITION_KEYS = ("name", "description", "parameters")  # in this order, whatever the order in a file


def check_messages(messages: Any, *, is_training: bool = True, numbers: Sequence[int] = ()) -> None:
    """Raise ValueError, naming the message, unless these are messages that can be rendered.

    Messages are counted from 1, or as `numbers` says. In training only the first may be a system message; elsewhere
    the template decides where one may stand.
    """
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("messages must be a list of at least one message")
    call_ids: set[str] = set()
    for place, message in enumerate(messages):
        number = numbers[place] if numbers else place + 1
        if not isinstance(message, dict):
            raise ValueError(f"message {number} is not an object with a role and a content")
        try:
            _check_message(message, place == 0 or not is_training, is_training)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from None
        call_ids.update(str(call.get("id")) for call in message.get("tool_calls") or ())
        answered = message.get("tool_call_id")
        if answered is not None and str(answered) not in call_ids:
            raise ValueError(f"message {number}: no call before it has the tool_call_id {answered!r}")


def _check_message(message: Message, may_be_system: bool, is_training: bool) -> None:
    role = message.get("role")
    if role not in ROLES:
        raise ValueError(f"the role {role!r} is not known; known roles are {', '.join(ROLES)}")
    if role == "system" and not may_be_system:
        raise ValueError("only the first message may be a system message")
    for key in message:
        if key not in ("role", "content", "name") and key not in _OWNERS:
            raise ValueError(f"the key {key!r} is unknown")
        if _OWNERS.get(key, role) != role:
            raise ValueError(f"only the role {_OWNERS[key]} may have {key}")
    if message.get("weight", 1) not in (0, 1):
        raise ValueError(f"weight = {message['weight']!r} is neither 0 nor 1")
    calls, tools = message.get("tool_calls") or (), message.get("tools") or ()
    if message.get("content") is not None or not calls:
        _check_text(message.get("content"), "content")
    _check_text(message.get("reasoning_content", ""), "reasoning_content")
    check_call = partial(object_arguments, is_strict=is_training)
    for what, check, items in (("tool_calls", check_call, calls), ("tools", _definition, tools)):
        if not isinstance(items, list | tuple):
            raise ValueError(f"{what} is not a list")
        for item in items:
            check(item)


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"the {what} is not a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {what} holds half of a surrogate pair, which is not text") from None


def _as_json(value: Any, what: str) -> str:
    """Raises `ValueError` for what is nested so deeply that a template could not write it."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            below
            for each in level
            if isinstance(each, dict | list)
            for below in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return json.dumps(value, ensure_ascii=False)
    raise ValueError(f"the {what} is nested more than {_DEEPEST} deep")


def object_arguments(call: Any, is_strict: bool) -> dict[str, Any]:
    """A tool call as templates want it: under `function`, its arguments an object where it had them as JSON text.

    Text that is no JSON object, as that of a call that was cut off, stays text unless `is_strict`. Raises ValueError
    for what is no call.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError("a tool call has no function with a name")
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            if is_strict:
                raise ValueError(f"the arguments of {function['name']} are not JSON ({error})") from None
    if isinstance(function.get("arguments"), str) and not isinstance(arguments, dict) and not is_strict:
        arguments = function["arguments"]
    elif not isinstance(arguments, dict):
        raise ValueError(f"the arguments of {function['name']} are not an object")
    _check_text(_as_json(function, "tool call") + _as_json(arguments, "tool call"), "tool call")
    given_id = {"id": call["id"]} if call.get("id") is not None else {}
    return {**given_id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def with_tools(messages: Sequence[Message], tools: Sequence[Any]) -> list[Message]:
    """The conversation in which the assistant may call `tools`: the system message, made where missing, has them.

    Raises ValueError where one is no definition of a function.
    """
    if not tools:
        return list(messages)
    has_system = bool(messages) and messages[0].get("role") == "system"
    system = messages[0] if has_system else {"role": "system", "content": ""}
    return [{**system, "tools": [_definition(tool) for tool in tools]}, *messages[has_system:]]


def _definition(tool: Any) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ValueError("a tool has no function with a name")
    _check_text(_as_json(function, "tool"), "tool")
    ordered = {key: function[key] for key in _DEFINITION_KEYS if function.get(key) is not None}
    others = {key: value for key, value in function.items() if key not in (*_DEFINITION_KEYS, "type")}
    return {"type": "function", "function": ordered | others}


def as_rendered(messages: Sequence[Message]) -> tuple[list[dict[str, Any]] | None, list[Message]]:
    """What a template is given: the tools (None without any), and the messages without what only training knows.

    Results of tools come in the order of the calls, because templates do not render the ids that pair them.
    """
    tools = [_definition(tool) for tool in messages[0].get("tools") or ()]
    if tools and not messages[0]["content"] and len(messages) > 1:
        messages = messages[1:]  # it only brought the tools
    shown: list[Message] = []
    for message in _results_in_order(messages):
        each = {key: value for key, value in message.items() if key not in ("weight", "tools")}
        each["content"] = each.get("content") or ""
        if calls := each.pop("tool_calls", None):
            each["tool_calls"] = [object_arguments(call, is_strict=False) for call in calls]
        shown.append(each)
    return tools or None, shown


def _results_in_order(messages: Sequence[Message]) -> list[Message]:
    ordered: list[Message] = []
    places: dict[str, tuple[int, int]] = {}  # of a call: its message, and which of its calls

    def place(result: Message) -> tuple[int, int]:
        return places.get(str(result.get("tool_call_id")), (0, 0))

    for number, message in enumerate(messages):
        places |= {str(call.get("id")): (number, at) for at, call in enumerate(message.get("tool_calls") or ())}
        at = len(ordered)
        if message["role"] == "tool" and message.get("tool_call_id") is not None:
            while at and ordered[at - 1]["role"] == "tool" and place(ordered[at - 1]) > place(message):
                at -= 1
        ordered.insert(at, message)
    return ordered
