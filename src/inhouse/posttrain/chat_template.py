"""The one chat template: fine-tuning, evaluation, serving and every exported folder render messages with it.

Text becomes tokens so that only the template writes special tokens: a message that contains the text of one
(`<|im_end|>`, say) gets ordinary tokens for it, so nobody can end a turn or open another role from inside a message.
For all other messages the ids are those of transformers' `apply_chat_template`, token for token.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inhouse.data.tokenizer import Tokenizer

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' -}}
    {%- if message.role == 'assistant' -%}
        {%- generation -%}
            {%- if message.reasoning_content -%}
                {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
            {%- endif -%}
            {{- message.content + '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\\n' -}}
    {%- else -%}
        {{- message.content + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
ROLES = ("system", "user", "assistant", "tool")
Message = dict[str, Any]


class Encoded(NamedTuple):
    """Token ids, and for each whether it is the assistant's (its end of turn included), so trained on."""

    ids: list[int]
    trained: list[bool]


class _Marks(NamedTuple):
    """Three characters that occur in no message: they carry what plain text cannot through the template."""

    guard: str  # stands inside the text of a special token that a message contains
    start: str  # of the assistant's part
    end: str


class _GenerationTag(Extension):
    """{% generation %}…{% endgeneration %}: puts the marks of the assistant's part around what the tag encloses."""

    tags = {"generation"}  # noqa: RUF012 (the base class declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)

        def put(name: str) -> nodes.Node:
            return nodes.Output([nodes.Name(name, "load")]).set_lineno(line)

        return [put("generation_start"), *body, put("generation_end")]


def encode_conversation(tokenizer: Tokenizer, messages: Sequence[Message], template: str = CHAT_TEMPLATE) -> Encoded:
    """A whole conversation for training. Raises ValueError where `check_messages` does, or nothing would be trained."""
    check_messages(messages)
    encoded = _encode(tokenizer, messages, None, template, add_generation_prompt=False)
    if not any(encoded.trained):
        raise ValueError("nothing to train on: no assistant message, or no {% generation %} mark in the chat template")
    return encoded


def encode_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    tools: list[dict[str, Any]] | None = None,
    template: str = CHAT_TEMPLATE,
) -> list[int]:
    """Token ids of a conversation up to where the assistant's next answer begins."""
    check_messages(messages)
    return _encode(tokenizer, messages, tools, template, add_generation_prompt=True).ids


def check_messages(messages: Any) -> None:
    """Raise ValueError, naming the message (counted from 1), unless these are messages that can be rendered."""
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("messages must be a list of at least one message")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict):
            raise ValueError(f"message {number} is not an object with a role and a content")
        role = message.get("role")
        if role not in ROLES:
            raise ValueError(f"message {number} has the role {role!r}; known roles are {', '.join(ROLES)}")
        if role == "system" and number > 1:
            raise ValueError(f"message {number} is a system message; only the first may be one")
        unknown = sorted(set(message) - {"role", "content", "reasoning_content"})
        if unknown:
            raise ValueError(f"message {number} has the unknown key {unknown[0]!r}")
        if "reasoning_content" in message and role != "assistant":
            raise ValueError(f"message {number} has reasoning_content, which only the assistant's may have")
        _check_text(message.get("content"), f"content of message {number}")
        _check_text(message.get("reasoning_content", ""), f"reasoning_content of message {number}")


def _check_text(text: Any, what: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"the {what} is not a string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the {what} holds half of a surrogate pair, which is not text") from None


def _encode(
    tokenizer: Tokenizer, messages: Sequence[Message], tools: Any, template: str, add_generation_prompt: bool
) -> Encoded:
    marks = _unused_characters(json.dumps([messages, tools], ensure_ascii=False) + template)
    specials = _special_pattern(tuple(tokenizer.special))
    rendered = _compile(template).render(
        messages=[_guarded(message, specials, marks.guard) for message in messages],
        tools=_guarded(tools, specials, marks.guard),
        add_generation_prompt=add_generation_prompt,
        generation_start=marks.start,
        generation_end=marks.end,
        **{f"{name}_token": None for name in ("bos", "eos", "pad", "unk")},
    )
    ids: list[int] = []
    trained: list[bool] = []
    is_trained = False
    for piece in specials.split(rendered):
        if piece in tokenizer.special:
            ids.append(tokenizer.special[piece])
            trained.append(is_trained)
        else:
            is_trained = _encode_text(tokenizer, piece, marks, is_trained, ids, trained)
    return Encoded(ids, trained)


def _encode_text(
    tokenizer: Tokenizer, piece: str, marks: _Marks, is_trained: bool, ids: list[int], trained: list[bool]
) -> bool:
    """Append the tokens of text between two special tokens; return whether it ends inside the assistant's part.

    The text is encoded in one go, as transformers does; a token that straddles an edge of the assistant's part (line
    breaks merge) is trained.
    """
    plain = ""
    is_byte_trained: list[bool] = []  # up to the last mark
    for part in re.split(f"([{marks.start}{marks.end}])", piece.replace(marks.guard, "")):
        if part in (marks.start, marks.end):
            is_byte_trained += [is_trained] * (len(plain.encode()) - len(is_byte_trained))
            is_trained = part == marks.start
        else:
            plain += part
    at = 0
    for token in tokenizer.encode(plain):
        is_token_trained = is_trained
        if at < len(is_byte_trained):
            end = at + len(tokenizer.decode_bytes([token]))
            is_token_trained = any(is_byte_trained[at:end]) or (is_trained and end > len(is_byte_trained))
            at = end
        ids.append(token)
        trained.append(is_token_trained)
    return is_trained


def _unused_characters(text: str) -> _Marks:
    """Private-use characters that `text` does not contain."""
    used = set(text)
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in used)
    try:
        return _Marks(next(free), next(free), next(free))
    except StopIteration:
        raise ValueError("the messages use every private-use character of Unicode") from None


def _guarded(value: Any, specials: re.Pattern[str], guard: str) -> Any:
    """`value` with the guard after the first character of each special token's text in it."""
    if isinstance(value, str) and specials.search(value):
        return re.sub(f"(?={specials.pattern})(.)", rf"\g<2>{guard}", value, flags=re.DOTALL)
    if isinstance(value, dict):
        return {key: _guarded(item, specials, guard) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_guarded(item, specials, guard) for item in value]
    return value


@cache
def _special_pattern(specials: tuple[str, ...]) -> re.Pattern[str]:
    """Any special token's text, the longest first, as one group (so that `split` keeps it)."""
    return re.compile(f"({'|'.join(re.escape(text) for text in sorted(specials, key=len, reverse=True))})")


@cache
def _compile(template: str) -> jinja2.Template:
    """Compile a template in the sandbox and with the names that transformers gives it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as error:
        raise ValueError(f"the chat template does not compile: {error}") from error


def _raise(message: str) -> None:
    raise ValueError(f"the chat template refuses these messages: {message}")
