"""The layouts that conversations come in, each told by its keys and turned into messages.

What a layout says is kept or refused: keys without a meaning for training are named to the caller, and text of the
assistant's thinking (`<think>…</think>` where a message begins) becomes its `reasoning_content`.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from inhouse.posttrain.messages import Message, check_messages, with_tools

KNOWN = (
    "messages of role and content (OpenAI), conversations of from and value (ShareGPT), instruction and output "
    "(Alpaca), instruction and response (Dolly), prompt and completion, question and answer"
)
_SPEAKERS = {
    "system": "system", "developer": "system", "human": "user", "user": "user",
    "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant", "model": "assistant", "bot": "assistant",
    "function_call": "assistant", "tool_call": "assistant",
    "observation": "tool", "tool": "tool", "function": "tool", "function_response": "tool", "tool_response": "tool",
}  # fmt: skip
_CALLS = ("function_call", "tool_call")  # speakers whose text is the calls as JSON
_REASONING = ("reasoning_content", "reasoning", "thinking")
_MEANT = ("role", "content", "name", "tool_calls", "function_call", "tool_call_id", "weight", *_REASONING)
_NOT_TEXT = ("image", "images", "audio", "audios", "video", "videos", "refusal")
_DIALOGUES = ("messages", "conversations", "conversation")


class _Pair(NamedTuple):
    """A layout of one question and its answer, by keys: any of `answers`, and what stands with the question."""

    layout: str
    question: str
    context: str  # or ""
    answers: tuple[str, ...]


_PAIRS = (
    _Pair("prompt/completion", "prompt", "", ("completion", "response")),
    _Pair("Alpaca", "instruction", "input", ("output",)),
    _Pair("Dolly", "instruction", "context", ("response",)),
    _Pair("question/answer", "question", "context", ("answer", "response")),
)
_SYSTEM, _TOOLS, _HISTORY = ("system", "system_prompt"), ("tools", "functions"), "history"


class Conversation(NamedTuple):
    """Messages, the layout that they came in, and the keys that were passed over."""

    messages: list[Message]
    layout: str
    ignored: frozenset[str]


def to_conversation(record: Any) -> Conversation:
    """The conversation of one record. Raises ValueError with a sentence where it is none, or holds no answer."""
    if not isinstance(record, dict):
        raise ValueError(f"it holds {_kind(record)}, not an object; known layouts are {KNOWN}")
    record = {key: value for key, value in record.items() if value is not None}
    used: set[str] = set()
    messages, layout, ignored = _dialogue(record, used) or _pair(record, used) or _unknown(record)
    if messages[:1] and isinstance(messages[0], dict) and messages[0].get("role") != "system":
        messages = [*_system(record, used), *messages]
    check_messages(messages)
    messages = with_tools(messages, _tools(record, used))
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise ValueError("no message of the assistant, so nothing to train on")
    if not any(message.get("weight", 1) for message in answers):
        raise ValueError("every message of the assistant has weight 0, so nothing to train on")
    return Conversation(messages, layout, frozenset((set(record) - used) | ignored))


_Found = tuple[list[Message], str, set[str]]


def _dialogue(record: dict[str, Any], used: set[str]) -> _Found | None:
    key = next((key for key in _DIALOGUES if key in record), None)
    if key is None:
        return None
    used.add(key)
    turns = record[key]
    first = turns[0] if isinstance(turns, list) and turns else None
    if not isinstance(first, dict):
        raise ValueError(f"{key} must be a list of at least one message, each an object")
    ignored: set[str] = set()
    if "role" in first:
        return [_openai(turn, ignored) for turn in turns], "OpenAI messages", ignored
    if "from" in first:
        return [_sharegpt(turn, ignored) for turn in turns], "ShareGPT", ignored
    raise ValueError(f"the entries of {key} have {_keys(first)}; known are role and content, or from and value")


def _openai(turn: Any, ignored: set[str]) -> Message:
    if not isinstance(turn, dict):
        return turn  # what it is, `check_messages` says
    turn = {key: value for key, value in turn.items() if value is not None}
    for key in _NOT_TEXT:
        if turn.get(key):
            raise ValueError(f"a message holds {key}, and only text is trained on; leave the conversation out")
    ignored |= turn.keys() - set(_MEANT)
    message = {key: turn[key] for key in ("role", "content", "name", "tool_call_id", "weight") if key in turn}
    message["role"] = {"developer": "system", "function": "tool"}.get(str(turn.get("role")), turn.get("role"))
    if isinstance(message.get("content"), list):
        message["content"] = "\n".join(map(_text_part, message["content"]))
    old = [{"function": turn["function_call"]}] if "function_call" in turn else []
    if calls := turn.get("tool_calls") or old:
        message = {**message, "content": message.get("content", ""), "tool_calls": calls}
    reasoning = next((turn[key] for key in _REASONING if key in turn), None)
    if reasoning is not None:
        return {**message, "reasoning_content": reasoning}
    return _with_reasoning(message)


def _text_part(part: Any) -> str:
    """One of a content's parts; they are joined by line breaks, as in serving."""
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        kind = part.get("type") if isinstance(part, dict) else _kind(part)
        raise ValueError(f"the content has a part of type {kind!r}, and only text is trained on")
    return part["text"]


def _sharegpt(turn: Any, ignored: set[str]) -> Message:
    if not isinstance(turn, dict) or "from" not in turn or "value" not in turn:
        raise ValueError(f"a turn has {_keys(turn) if isinstance(turn, dict) else _kind(turn)}, not from and value")
    role = _SPEAKERS.get(str(turn["from"]).lower())
    if role is None:
        raise ValueError(f"a turn is from {turn['from']!r}; known are {', '.join(_SPEAKERS)}")
    ignored |= turn.keys() - {"from", "value", "weight"}
    message: Message = {"role": role, "content": turn["value"]}
    if turn.get("weight") is not None:
        message["weight"] = turn["weight"]
    if str(turn["from"]).lower() not in _CALLS:
        return _with_reasoning(message)
    calls = _json(turn["value"], f"a turn from {turn['from']}")
    return {**message, "content": "", "tool_calls": calls if isinstance(calls, list) else [calls]}


def _pair(record: dict[str, Any], used: set[str]) -> _Found | None:
    found = [(pair, key) for pair in _PAIRS if pair.question in record for key in pair.answers if key in record]
    if not found:
        return None
    pair, answer_key = found[0]
    question, answer = record[pair.question], record[answer_key]
    used |= {pair.question, answer_key}
    ignored: set[str] = set()
    if pair.layout == "prompt/completion" and not (isinstance(question, str) and isinstance(answer, str)):
        return _message_lists(question, answer, ignored), pair.layout, ignored
    if pair.context in record:
        used.add(pair.context)
        question = _with_context(question, record[pair.context])
    return [*_history(record, used), *_turns([(question, answer)])], pair.layout, ignored


def _with_context(question: Any, context: Any) -> Any:
    if not context or not isinstance(question, str):
        return question
    if not isinstance(context, str):
        raise ValueError(f"what stands beside the question is {_kind(context)}, not text")
    return f"{question}\n\n{context}"


def _message_lists(prompt: Any, completion: Any, ignored: set[str]) -> list[Message]:
    """Messages on both sides, of which those of the completion are trained on."""
    given = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    answer = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    if not isinstance(given, list) or not isinstance(answer, list):
        raise ValueError("prompt and completion must each be text or a list of messages")
    before = [_openai(turn, ignored) for turn in given]
    for message in before:
        if isinstance(message, dict) and message.get("role") == "assistant":
            message["weight"] = 0
    return before + [_openai(turn, ignored) for turn in answer]


def _history(record: dict[str, Any], used: set[str]) -> list[Message]:
    """Earlier questions and answers, as pairs."""
    used |= {_HISTORY} & record.keys()
    history = record.get(_HISTORY) or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise ValueError("history must be a list of pairs, each a question and its answer")
    return _turns(history)


def _turns(pairs: Iterable[Sequence[Any]]) -> list[Message]:
    messages: list[Message] = []
    for question, answer in pairs:
        asked, answered = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        messages += [asked, _with_reasoning(answered)]
    return messages


def _system(record: dict[str, Any], used: set[str]) -> list[Message]:
    used |= set(_SYSTEM) & record.keys()
    system = next((record[key] for key in _SYSTEM if record.get(key)), None)
    return [] if system is None else [{"role": "system", "content": system}]


def _tools(record: dict[str, Any], used: set[str]) -> list[Any]:
    used |= set(_TOOLS) & record.keys()
    key = next((key for key in _TOOLS if record.get(key)), None)
    tools = [] if key is None else record[key]
    if isinstance(tools, str):  # data sets whose tools differ keep them as text
        tools = _json(tools, str(key))
    if not isinstance(tools, list):
        raise ValueError(f"{key} is not a list of tools")
    return tools


def _with_reasoning(message: Message) -> Message:
    """The message with thinking that its text begins with as `reasoning_content`.

    Raises ValueError where the tags stand otherwise: they would be taught as text that looks like the tokens.
    """
    content = message.get("content")
    if message["role"] != "assistant" or not isinstance(content, str) or not re.search("</?think>", content):
        return message
    found = re.fullmatch(r"\s*<think>(.*?)</think>(.*)", content, re.DOTALL)
    if found is None or re.search("</?think>", found[1] + found[2]):
        raise ValueError(
            "<think> or </think> of the assistant is not one pair where its text begins; mend it, or give the "
            "thinking as reasoning_content (an empty one leaves the text as it is)"
        )
    return {**message, "content": found[2].lstrip("\n"), "reasoning_content": found[1].strip("\n")}


def _json(text: Any, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{what} is not JSON ({error})") from None


def _unknown(record: dict[str, Any]) -> _Found:
    raise ValueError(f"no known layout: it has {_keys(record)}; known are {KNOWN}")


def _keys(value: dict[str, Any]) -> str:
    shown = [str(key) for key in value][:8]
    return f"the key{'s' * (len(shown) != 1)} {', '.join(shown)}" if shown else "no keys"


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)
