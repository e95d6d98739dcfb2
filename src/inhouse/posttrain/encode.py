"""Every conversation to train on, encoded over several processes into files that packing reads."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inhouse.common.files import write_atomic
from inhouse.common.progress import Progress
from inhouse.data.process_pool import map_ordered
from inhouse.data.tokenizer import Tokenizer
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.posttrain.chat_template import Encoded, encode_conversation
from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.posttrain.messages import Message
from inhouse.posttrain.packing import ConversationWriter, is_written
from inhouse.posttrain.settings import SftSettings, TooLong

HELDOUT = "heldout.jsonl"  # in a fine-tuned folder: own conversations that it was not trained on
Encode = Callable[[list[Message]], Encoded]
_CHUNK = 1_000  # conversations that one process encodes at a time
_LEAST_TO_HOLD_OUT, _HELD_OUT_ONE_IN = 40, 20  # own conversations


class Sourced(NamedTuple):
    """A conversation and where it is from: the number of the user's file, or -1 for what an environment made."""

    file: int
    messages: list[Message]


class _Pieces(NamedTuple):
    """What became of one conversation."""

    file: int
    encoded: list[Encoded]
    was_too_long: bool


def gather(settings: SftSettings, data: Path, seed: int) -> Iterator[Sourced]:
    """Every conversation: the user's files, then the problems of each environment, worked."""
    for number, source in enumerate(settings.conversations):
        yield from (Sourced(number, messages) for messages in read_conversations(source.path))
    for name, environment in ENVIRONMENTS.items():
        for problem in environment.draw("train", settings.generated.get(name, 0), seed, data):
            answer = {"role": "assistant", "content": problem.worked}
            yield Sourced(-1, [{"role": "user", "content": problem.prompt}, answer])


def encode_all(settings: SftSettings, tokenizer: Path, template: str, data: Path, folder: Path, seed: int) -> None:
    """Write `folder/train` and, of enough own conversations, `folder/heldout` with the messages in heldout.jsonl.

    Does nothing where an earlier attempt wrote them whole. Raises `ValueError` where there is no conversation, or none
    that fits into a row.
    """
    if is_written(folder / "train"):
        return
    own = sum(1 for source in settings.conversations for _ in read_conversations(source.path))
    loaded, heldout = Tokenizer.load(tokenizer), list[list[Message]]()

    def to_train_on() -> Iterator[Sourced]:
        for each in gather(settings, data, seed):
            if each.file >= 0 and own >= _LEAST_TO_HOLD_OUT and _is_held_out(each.messages):
                heldout.append(each.messages)
            else:
                yield each

    length, too_long = settings.sequence_length, settings.too_long
    encode = partial(_encode, tokenizer=tokenizer, template=template, length=length, too_long=too_long)
    writer, counts = ConversationWriter(folder / "train", loaded.vocab_size), _Counts(len(settings.conversations))
    with Progress("conversations", None, "conversations") as progress:
        for chunk in map_ordered(encode, _chunks(to_train_on()), 0):
            for pieces in chunk:
                counts.add(pieces)
                for encoded in pieces.encoded:
                    writer.add(encoded)
                progress.update()
    if not writer.num_conversations:
        raise ValueError(
            f"none of {counts.num_too_long} conversations fits into sequence_length = {settings.sequence_length} "
            f'tokens: raise it, give shorter ones, or set [sft] too_long = "truncate"'
            if counts.num_too_long
            else "no conversations to fine-tune on: give [sft] conversations = [files], or counts in [sft.generated]"
        )
    if heldout:
        lines = (json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in heldout)
        write_atomic(folder / HELDOUT, "".join(lines))
        validate = ConversationWriter(folder / "heldout", loaded.vocab_size)
        for pieces in encode([Sourced(-1, messages) for messages in heldout]):
            for encoded in pieces.encoded:
                validate.add(encoded)
        if validate.num_conversations:
            validate.finish()
    np.save(folder / "files.npy", np.array(counts.file_of, dtype=np.int16))
    writer.finish(files=counts.files, heldout=len(heldout), too_long=counts.num_too_long)


def repeats(settings: SftSettings, folder: Path, seed: int) -> np.ndarray:
    """How often each encoded conversation comes in an epoch, by its file's weight; a fraction is a share of them."""
    file_of = np.load(folder / "files.npy")
    weights = np.array([*(source.weight for source in settings.conversations), 1.0])[file_of]
    whole = np.floor(weights)
    extra = np.random.default_rng((seed, 2)).random(len(weights)) < weights - whole
    return (whole + extra).astype(np.int64)


class _Counts:
    """What became of the conversations, by file of the user's."""

    def __init__(self, files: int) -> None:
        self.files = [{"conversations": 0, "too_long": 0, "trained_tokens": 0} for _ in range(files)]
        self.file_of: list[int] = []
        self.num_too_long = 0

    def add(self, pieces: _Pieces) -> None:
        self.file_of += [pieces.file] * len(pieces.encoded)
        self.num_too_long += pieces.was_too_long
        if pieces.file >= 0:
            counts = self.files[pieces.file]
            counts["conversations"] += bool(pieces.encoded)
            counts["too_long"] += pieces.was_too_long
            counts["trained_tokens"] += sum(sum(encoded.trained) for encoded in pieces.encoded)


def _chunks(conversations: Iterator[Sourced]) -> Iterator[list[Sourced]]:
    while chunk := list(islice(conversations, _CHUNK)):
        yield chunk


def _encode(chunk: Iterable[Sourced], tokenizer: Path, template: str, length: int, too_long: TooLong) -> list[_Pieces]:
    encode = partial(encode_conversation, Tokenizer.load(tokenizer), template=template)
    return [_Pieces(each.file, *fit(encode, each.messages, length, too_long)) for each in chunk]


def fit(encode: Encode, messages: list[Message], length: int, too_long: TooLong) -> tuple[list[Encoded], bool]:
    """A conversation as examples that fit into a row, and whether it was too long for one."""
    whole = encode(messages)
    if _size(whole) <= length:
        return [whole], False
    if too_long == "leave_out":
        return [], True
    pieces, lead = [], messages[:1] if messages[0]["role"] in ("system", "developer") else []
    turns = _turns(messages[len(lead) :])
    while turns:
        taken = len(turns)
        while taken and (piece := _try(encode, [*lead, *chain(*turns[:taken])])) and _size(piece) > length:
            taken -= 1
        if taken and piece:
            pieces.append(piece)
        elif not taken and (cut := _cut(_try(encode, [*lead, *turns[0]]), length)):
            pieces.append(cut)
        if too_long == "truncate":
            break
        turns = turns[max(1, taken) :]
    return pieces, True


def _turns(messages: list[Message]) -> list[list[Message]]:
    """A user's message and all that follows up to the next one."""
    turns: list[list[Message]] = []
    for message in messages:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _try(encode: Encode, messages: list[Message]) -> Encoded | None:
    """None where there is nothing to train on."""
    try:
        return encode(messages)
    except ValueError:
        return None


def _cut(encoded: Encoded | None, length: int) -> Encoded | None:
    """The beginning, without an end of the answer to train on; None where no answer begins in it."""
    if encoded is None or not any(encoded.trained[1 : length + 1]):
        return None
    return Encoded(encoded.ids[: length + 1], encoded.trained[: length + 1])


def _size(encoded: Encoded) -> int:
    """Tokens of a row that it takes: up to the one before its last trained token."""
    return max(place for place, is_trained in enumerate(encoded.trained) if is_trained)


def _is_held_out(messages: list[Message]) -> bool:
    """By content, so that copies fall on one side."""
    text = json.dumps(messages, sort_keys=True, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]) % _HELD_OUT_ONE_IN == 0
