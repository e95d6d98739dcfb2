"""Pairs of answers from files: a prompt, the answer that was chosen and the one that was rejected."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.posttrain.conversation_files import conversation_files, read_records
from inhouse.posttrain.layouts import to_conversation
from inhouse.posttrain.messages import Message

KNOWN = "chosen and rejected, each a text behind the text or the messages of prompt, or whole conversations"


class Pair(NamedTuple):
    """Two conversations that differ in their last message, the assistant's."""

    chosen: list[Message]
    rejected: list[Message]


def read_pairs(path: Path) -> Iterator[Pair]:
    """The pairs of a file, or of a folder's files.

    Raises ValueError naming file and place for what is no pair, and for a file that holds none; OSError for a path that
    is not there.
    """
    for file in conversation_files(path):
        is_empty = True
        for place, record in read_records(file):
            try:
                yield to_pair(record)
            except ValueError as error:
                raise ValueError(f"{file}, {place}: {error}") from None
            is_empty = False
        if is_empty:
            raise ValueError(f"{file}: holds no pairs; fill it, or leave it out")


def to_pair(record: Any) -> Pair:
    """A record as a pair: `prompt`, `chosen` and `rejected` as texts, or as messages; without a prompt, or with one
    that both sides begin with, as whole conversations. `tools` and `system` are as in conversations.
    """
    if not isinstance(record, dict) or not {"chosen", "rejected"} <= record.keys():
        found = f"the keys {', '.join(map(str, record))}" if isinstance(record, dict) else type(record).__name__
        raise ValueError(f"is no pair: there are {found}; known are {KNOWN}")
    chosen, rejected = (_side(record, side) for side in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected answer different prompts: all but their last message must be equal")
    return Pair(chosen, rejected)


def _side(record: dict[str, Any], side: str) -> list[Message]:
    prompt, answer = (_messages(record.get(key), role) for key, role in (("prompt", "user"), (side, "assistant")))
    if not answer or answer[-1].get("role") != "assistant":
        raise ValueError(f"{side} does not end with an answer of the assistant; known are {KNOWN}")
    if answer[0].get("role") == "assistant":
        answer = [*prompt, *answer]
    elif prompt and answer[: len(prompt)] != prompt:
        raise ValueError(f"{side} is a whole conversation that does not begin with prompt; leave prompt out")
    if len(answer) < 2:
        raise ValueError(f"{side} answers nothing: there is no prompt")
    beside = {key: record[key] for key in ("tools", "system") if record.get(key) is not None}
    return to_conversation({"messages": answer, **beside}).messages


def _messages(value: Any, role: str) -> list[Message]:
    """A text as the message of `role`, messages as they are."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise ValueError(f"what {role}s say is neither a text nor a list of messages")
    return value
