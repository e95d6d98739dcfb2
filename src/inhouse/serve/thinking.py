"""How much a model may think: from the words of a request to its prompt, and to a limit for the engine.

A model whose chat template knows of no thinking has nothing to spend: every budget is kept.
"""

import re
from typing import Any

from inhouse.api.wire.chat import ChatRequest
from inhouse.api.wire.fields import misfit
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.request import ThinkingLimit
from inhouse.serve.reasoning import CLOSE, OPEN

SWITCH = "enable_thinking"  # the variable by which templates (Qwen3, GLM-4.5) know whether to think
_LAST = 16  # tokens of a prompt that may hold an opening mark
# the most tokens, and the most of the room for an answer, so that an answer is left
_EFFORTS = {
    "minimal": (512, 0.1), "low": (1024, 0.2), "medium": (8192, 0.5), "high": (24_576, 0.8),
    "xhigh": (32_768, 0.95), "max": (None, 0.95),
}  # fmt: skip


def is_refused(body: ChatRequest) -> bool:
    """Whether the model must not think."""
    return body.reasoning_effort == "none" or body.thinking_token_budget == 0


def budget_of(body: ChatRequest, room: int) -> int | None:
    """Tokens of an answer of at most `room`; None: as many as the model likes."""
    if is_refused(body):
        return 0
    if body.thinking_token_budget is not None or body.reasoning_effort is None:
        return body.thinking_token_budget
    most, part = _EFFORTS[body.reasoning_effort]
    return max(min(most or room, int(part * room)), 1)


def variables_of(body: ChatRequest, template: str) -> dict[str, Any]:
    """The template's variables, with the one that switches thinking on or off where it has one. Raises `ApiError`."""
    given = body.chat_template_kwargs
    if not asks(body) or not re.search(rf"\b{SWITCH}\b", template):
        return given
    if given.get(SWITCH, not is_refused(body)) != (not is_refused(body)):
        raise misfit("chat_template_kwargs", f"its {SWITCH} says the opposite of how much the model may think")
    return given | {SWITCH: not is_refused(body)}


def asks(body: ChatRequest) -> bool:
    """Whether the request says anything about it."""
    return body.reasoning_effort is not None or body.thinking_token_budget is not None


def knows_thinking(template: str | None) -> bool:
    return CLOSE in (template or "")


def is_opened(tokenizer: Tokenizer, prompt: list[int]) -> bool:
    """Whether the prompt ends with the mark that opens the thinking."""
    return tokenizer.decode(prompt[-_LAST:]).rstrip().endswith(OPEN)


def closed(tokenizer: Tokenizer, prompt: list[int], template: str) -> list[int]:
    """The prompt, with the thinking that it has opened ended before it begins.

    Where it has opened none, a model that was never shown an empty thinking (as ours are not) would only be confused by
    one; if it opens a thinking itself, the engine closes that at once.
    """
    return prompt + tokenizer.encode_with_special(closing_of(template)) if is_opened(tokenizer, prompt) else prompt


def limit_of(tokenizer: Tokenizer, template: str, budget: int, is_open: bool) -> ThinkingLimit:
    ids = tokenizer.encode_with_special(closing_of(template))
    return ThinkingLimit(budget, tuple(ids), is_open, OPEN, CLOSE)


def closing_of(template: str) -> str:
    """The closing mark with the line breaks that the template writes around it."""
    around = re.findall(rf"((?:\\n)*){CLOSE}((?:\\n)*)", template)
    before = "\n" if any(breaks for breaks, _ in around) else ""
    return before + CLOSE + "\n" * max((len(breaks) // 2 for _, breaks in around), default=0)
