"""The one chat template: fine-tuning, evaluation, serving and every exported folder render messages with it.

Text becomes tokens so that only the template writes special tokens: a message that contains the text of one
(`<|im_end|>`, say) gets ordinary tokens for it, so nobody can end a turn or open another role from inside a message.

What the assistant says is encoded apart from what stands before it, so that a training example begins with exactly the
tokens of its prompt, whatever character the answer begins with. Otherwise the ids are those of transformers'
`apply_chat_template`, which encodes all text between two special tokens at once: they differ where an answer begins
with white space that merges with the line break behind `assistant`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from inhouse.data.tokenizer import Tokenizer
from inhouse.posttrain.messages import Message, as_rendered, check_messages

# Tools: listed in the system turn, called in <tool_call> tags (what vLLM's `hermes` parser and llama.cpp read), their
# results in turns of their own. The results are not put into the user's turn, as Qwen3's template has them: what a
# tool returns is not what the user said. Its Jinja is plain: llama.cpp has a small one of its own.
CHAT_TEMPLATE = """\
{%- if tools -%}
    {{- '<|im_start|>system\\n' -}}
    {%- if messages[0].role == 'system' and messages[0].content -%}
        {{- messages[0].content + '\\n\\n' -}}
    {%- endif -%}
    {{- 'You can call these functions:\\n<tools>\\n' -}}
    {%- for tool in tools -%}
        {{- (tool | tojson) + '\\n' -}}
    {%- endfor -%}
    {{- '</tools>\\nTo call one, write its name and its arguments as JSON in such tags, once for each call:\\n' -}}
    {{- '<tool_call>\\n{"name": "...", "arguments": {...}}\\n</tool_call><|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'assistant' -%}
        {{- '<|im_start|>assistant\\n' -}}
        {%- generation -%}
            {%- if message.reasoning_content -%}
                {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' -}}
            {%- endif -%}
            {%- if message.content -%}
                {{- message.content -}}
            {%- endif -%}
            {%- if message.tool_calls -%}
                {%- for tool_call in message.tool_calls -%}
                    {%- set call = tool_call.function if tool_call.function else tool_call -%}
                    {%- if message.content or not loop.first -%}
                        {{- '\\n' -}}
                    {%- endif -%}
                    {{- '<tool_call>\\n{"name": ' + (call.name | tojson) + ', "arguments": ' -}}
                    {%- if call.arguments is string -%}
                        {{- call.arguments -}}
                    {%- else -%}
                        {{- call.arguments | tojson -}}
                    {%- endif -%}
                    {{- '}\\n</tool_call>' -}}
                {%- endfor -%}
            {%- endif -%}
            {{- '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\\n' -}}
    {%- elif not (tools and loop.first and message.role == 'system') -%}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


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
    """A whole conversation for training. Its ids begin with those of `encode_prompt` before each answer trained on.

    Where the template has no {% generation %} marks, as other people's have none, an answer is what it renders behind
    the prompt for it. Templates that leave out earlier thinking render another text behind it once the conversation
    goes on: such answers are not trained on, the last one is.
    Raises ValueError where `check_messages` does, or nothing would be trained.
    """
    check_messages(messages)
    encoded = _encode(tokenizer, messages, template, add_generation_prompt=False)
    if not any(encoded.trained):
        raise ValueError(
            "nothing to train on: no assistant message of weight 1 that the chat template renders behind its prompt"
        )
    return encoded


def encode_prompt(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    template: str = CHAT_TEMPLATE,
    variables: Mapping[str, Any] | None = None,
) -> list[int]:
    """Token ids of a conversation up to where the assistant's next answer begins.

    `variables` are more names for the template. It decides where a system message may stand. Otherwise it raises
    ValueError as `check_messages` does.
    """
    check_messages(messages, is_training=False)
    return _encode(tokenizer, messages, template, add_generation_prompt=True, variables=variables or {}).ids


def _encode(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    template: str,
    add_generation_prompt: bool,
    variables: Mapping[str, Any] = MappingProxyType({}),
) -> Encoded:
    weights = [message.get("weight", 1) for message in messages if message["role"] == "assistant"]
    tools, shown = as_rendered(messages)
    marks = _unused_characters(json.dumps([shown, tools, dict(variables)], ensure_ascii=False) + template)
    specials = _special_pattern(tuple(tokenizer.special))
    names = {"generation_start": marks.start, "generation_end": marks.end, **tokenizer.named_special()}
    own = {"messages", "tools", "add_generation_prompt", *names}
    if taken := sorted(own & variables.keys()):
        raise ValueError(f"the variable {taken[0]!r} of the template is set by the server")
    names = _guarded(dict(variables), specials, marks.guard) | names
    guarded_tools = _guarded(tools, specials, marks.guard)

    def render(messages: Sequence[Message], is_prompt: bool) -> str:
        try:
            return _compile(template).render(
                messages=messages, tools=guarded_tools, add_generation_prompt=is_prompt, **names
            )
        except Exception as error:  # whatever a stranger's template does
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, jinja2.TemplateError) else error
            raise ValueError(f"the chat template cannot render these messages: {reason}") from error

    guarded = _guarded(shown, specials, marks.guard)
    rendered = render(guarded, add_generation_prompt)
    if marks.start not in rendered:  # also in a prompt, whose earlier answers a training example encodes apart
        rendered, answers = _mark_answers(guarded, rendered, render, marks, specials)
        weights = [weights[answer] for answer in answers]
    parts = list(_parts(rendered, marks, specials))
    num_marked = rendered.count(marks.start)
    if num_marked != len(weights):
        if not all(weights) and not add_generation_prompt:
            raise ValueError("a message has weight 0, but this chat template does not mark every answer")
        weights = [1] * num_marked
    plain = iter(tokenizer.encode_batch([part.text for part in parts if not part.is_special]))
    ids: list[int] = []
    trained: list[bool] = []
    for part in parts:
        ids += [tokenizer.special[part.text]] if part.is_special else next(plain)
        trained += [part.is_generated and bool(weights[part.answer - 1])] * (len(ids) - len(trained))
    return Encoded(ids, trained)


def _mark_answers(
    messages: Sequence[Message],
    rendered: str,
    render: Callable[[Sequence[Message], bool], str],
    marks: _Marks,
    specials: re.Pattern[str],
) -> tuple[str, list[int]]:
    """`rendered` with marks around each answer that stands in it as serving would have it, and which answers these are.

    An answer is what follows the prompt for it up to its last special token, so without the line break behind that.
    """
    pieces, answers, start = [], [], 0
    places = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    for number, place in enumerate(places):
        try:
            prompt, whole = render(messages[:place], True), render(messages[: place + 1], False)
        except ValueError:  # some templates refuse what does not end in a question, or nothing at all
            continue
        if not (rendered.startswith(whole) and whole.startswith(prompt) and start <= len(prompt) < len(whole)):
            continue
        answer = whole[len(prompt) :]
        ends = [match.end() for match in specials.finditer(answer)]
        end = len(prompt) + (ends[-1] if ends and not answer[ends[-1] :].strip() else len(answer))
        pieces += [rendered[start : len(prompt)], marks.start, rendered[len(prompt) : end], marks.end]
        answers.append(number)
        start = end
    return "".join([*pieces, rendered[start:]]), answers


class _Part(NamedTuple):
    """A special token, or text that is encoded by itself; `answer` counts the assistant's parts up to here."""

    text: str
    is_special: bool
    is_generated: bool
    answer: int


def _parts(rendered: str, marks: _Marks, specials: re.Pattern[str]) -> Iterator[_Part]:
    answer, is_generated = 0, False
    for number, piece in enumerate(specials.split(rendered)):
        if number % 2:
            yield _Part(piece, True, is_generated, answer)
            continue
        for text in re.split(f"([{marks.start}{marks.end}])", piece.replace(marks.guard, "")):
            if text in (marks.start, marks.end):
                is_generated = text == marks.start
                answer += is_generated
            elif text:
                yield _Part(text, False, is_generated, answer)


def _unused_characters(text: str) -> _Marks:
    """Private-use characters that `text` does not contain."""
    used = set() if text.isascii() else set(text)
    free = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in used)
    try:
        return _Marks(next(free), next(free), next(free))
    except StopIteration:
        raise ValueError("the messages use every private-use character of Unicode") from None


def _guarded(value: Any, specials: re.Pattern[str], guard: str) -> Any:
    """`value` with the guard after the first character of each special token's text in it, names of keys included."""
    if isinstance(value, str) and specials.search(value):
        return re.sub(f"(?={specials.pattern})(.)", rf"\g<2>{guard}", value, flags=re.DOTALL)
    if isinstance(value, dict):
        return {_guarded(key, specials, guard): _guarded(item, specials, guard) for key, item in value.items()}
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
