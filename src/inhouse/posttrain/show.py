"""`inhouse sft show`: conversations as fine-tuning will see them, with what is trained on marked, before it runs."""

import unicodedata
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from rich.text import Text

from inhouse.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from inhouse.environments.registry import environments_of
from inhouse.environments.tools import worked
from inhouse.posttrain.chat_template import CHAT_TEMPLATE, encode_conversation
from inhouse.posttrain.conversation_reader import read_placed
from inhouse.posttrain.messages import Message
from inhouse.posttrain.settings import SftSettings

TRAINED, READ = "bold green", "dim"
MARKS = ("⟦", "⟧")  # around what is trained on, where there is no colour


class Example(NamedTuple):
    """A conversation, and where it comes from; `messages` is None where there is only something to say."""

    title: str
    messages: list[Message] | None


def examples(settings: SftSettings, data: Path, seed: int, number: int, file: Path | None = None) -> Iterator[Example]:
    """The first `number` conversations of every file, or of `file` alone; then as many of each environment.

    `data` is the data stage's folder, which need not be there yet. Raises ValueError as `read_placed` does.
    """
    for path in [source.path for source in settings.conversations] if file is None else [file]:
        for placed in islice(read_placed(path), number):
            title = f"{placed.file}, {placed.place}: {placed.conversation.layout}"
            yield Example(title, placed.conversation.messages)
    if file is None:
        for environment in environments_of(settings.generated):
            name, count = environment.name, settings.generated[environment.name]
            problems = environment.draw("train", count, seed, data if data.is_dir() else None)
            title = f"{name}: made by code"
            nothing = Example(f"{name}: none without the documents of the data stage ({data} is not there)", None)
            is_drawn = False
            for problem in islice(problems, number):
                is_drawn = True
                yield Example(title, worked(environment, problem))
            if count and number and not is_drawn:
                yield nothing if not data.is_dir() else Example(f"{name}: none in the documents of {data}", None)


def bytes_as_tokens() -> Tokenizer:
    """A tokenizer with a token for each byte: it stands in where none has been trained yet."""
    return Tokenizer.train((), 256 + len(SPECIAL_TOKENS))


def rendered(example: Example, tokenizer: Tokenizer, is_coloured: bool, template: str = CHAT_TEMPLATE) -> Text:
    """One example as text for the terminal, with control characters to be seen."""
    if example.messages is None:
        return Text(f"── {example.title}\n")
    try:
        ids, trained = encode_conversation(tokenizer, example.messages, template)
    except ValueError as error:
        raise ValueError(f"{example.title}: {error}") from None
    text = Text(f"── {example.title}; {len(ids):,} tokens, {sum(trained):,} of them trained on\n")
    for is_trained, pairs in groupby(zip(ids, trained, strict=True), key=lambda pair: pair[1]):
        part = visible(tokenizer.decode(token for token, _ in pairs))
        if is_coloured:
            text.append(part, TRAINED if is_trained else READ)
        else:
            text.append(f"{MARKS[0]}{part}{MARKS[1]}" if is_trained else part)
    return text


def visible(text: str) -> str:
    """The text with signs for characters that a terminal obeys or hides: line ends, tabs, escapes, bidi marks."""
    return "".join(map(_sign, text))


def _sign(character: str) -> str:
    code = ord(character)
    if character == "\n":
        return "↵\n"
    if code < 32:
        return chr(0x2400 + code)  # Unicode's pictures of the control characters
    if character == " " or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"):
        return character
    return f"<U+{code:04X}>"
