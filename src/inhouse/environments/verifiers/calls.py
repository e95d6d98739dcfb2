"""Calls of functions in a reply, `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, and which of them are right.

It is how the chat template writes them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Call = tuple[str, dict[str, Any]]
_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def parted(reply: str) -> tuple[list[str], str]:
    """The calls of a reply and the text around them. No call is looked for behind the last end of one: a reply of
    beginnings alone would be read to its end for each."""
    end = reply.rfind("</tool_call>") + len("</tool_call>") if "</tool_call>" in reply else 0
    return _CALL.findall(reply[:end]), _CALL.sub("", reply[:end]) + reply[end:]


def read_call(text: str) -> Call | None:
    """None where it is no JSON object with a name and arguments."""
    try:
        call = json.loads(text.strip())
        return str(call["name"]), dict(call["arguments"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def calls_of(reply: str) -> tuple[list[Call], int]:
    """The calls of a reply, and how many more cannot be read."""
    read = [read_call(text) for text in parted(reply)[0]]
    calls = [call for call in read if call is not None]
    return calls, len(read) - len(calls)


def written(calls: Sequence[Call]) -> str:
    """The reply that makes these calls, as the chat template writes them."""
    texts = [json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) for name, arguments in calls]
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)


def compared_calls(wanted: Sequence[Call], calls: Sequence[Call], num_broken: int) -> tuple[float, list[str]]:
    """What the calls are worth where these are wanted, in any order, and what is missing from 1.

    Calls that are not wanted, or cannot be read, count against it.
    """
    matched = _matched(wanted, calls)
    missing = [
        f"{name}({json.dumps(arguments, ensure_ascii=False)}) is not called so"
        for place, (name, arguments) in enumerate(wanted)
        if place not in matched or matched[place][1] < 1
    ]
    used = {call for call, _ in matched.values()}
    missing += [f"{name} is called for nothing" for place, (name, _) in enumerate(calls) if place not in used]
    missing += ["a call that is not JSON"] * num_broken
    total = sum(worth for _, worth in matched.values())
    return total / max(len(wanted), len(calls) + num_broken), missing


def _matched(wanted: Sequence[Call], calls: Sequence[Call]) -> dict[int, tuple[int, float]]:
    """For each call that is wanted the one that is worth most as it, and how much; those that fit best come first, so
    that a right call is not taken for another one that is missing."""
    worths = [(_worth(*want, call), n, m) for n, want in enumerate(wanted) for m, call in enumerate(calls)]
    matched: dict[int, tuple[int, float]] = {}
    used = set()
    for worth, n, m in sorted(worths, key=lambda each: -each[0]):
        if worth and n not in matched and m not in used:
            matched[n] = (m, worth)
            used.add(m)
    return matched


def _worth(name: str, arguments: Mapping[str, Any], call: Call) -> float:
    """Of one call: nothing under another name, a quarter for the name, the rest for arguments, strange ones off."""
    if call[0] != name:
        return 0.0
    right = sum(_same(value, call[1].get(key)) for key, value in arguments.items())
    return 0.25 + 0.75 * right / max(len(arguments), len(arguments.keys() | call[1].keys()))


def _same(wanted: Any, given: Any) -> bool:
    if isinstance(wanted, str):
        return isinstance(given, str) and given.strip(" .\"'").casefold() == wanted.casefold()
    return type(given) in (int, float) and given == wanted
