"""Our grammars as vLLM takes them: one text in llguidance's dialect of Lark, where ours is a list that names parts."""

import json
import re
from typing import Any

_NAMES = re.compile(r'"(?:\\.|[^"\\])*"|/(?:\\.|[^/\\])*/|@(\w+)')  # literals, which may hold an @, and names


def as_lark(grammar: str) -> str:
    """The text of `engine.grammar.grammar` without parts that stand beside it."""
    whole, *parts = json.loads(grammar)["grammars"]
    named = {part.pop("name"): part for part in parts}
    return _text(whole, named) if "lark_grammar" in whole else f"start: {_rule(whole, named)}\n"


def _text(part: dict[str, Any], named: dict[str, dict[str, Any]]) -> str:
    """A Lark text, followed by a rule for each part that it names."""
    used: dict[str, None] = {}

    def to_rule(found: re.Match[str]) -> str:
        name = found[1]
        if name not in named:
            return found[0]
        used[name] = None
        return f"part_{name}"

    lines = [_NAMES.sub(to_rule, part["lark_grammar"])] if named else [part["lark_grammar"]]
    lines += [f"part_{name}: {_rule(named[name], named)}" for name in used]
    return "\n".join(lines) + "\n"


def _rule(part: dict[str, Any], named: dict[str, dict[str, Any]]) -> str:
    if "lark_grammar" in part:
        return f"%lark {{\n{_text(part, named)}}}"
    return f"%json {json.dumps(part['json_schema'])}"
