"""Every conversation to train on, encoded over several processes into files that packing reads. No torch in them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inhouse.common.files import write_atomic
from inhouse.common.progress import Progress
from inhouse.data.process_pool import map_ordered
from inhouse.data.shards import dtype_for
from inhouse.data.tokenizer import Tokenizer
from inhouse.environments.registry import environments_of
from inhouse.environments.tools import worked
from inhouse.posttrain.chat_template import Encoded, encode_conversation
from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.posttrain.conversations import TAUGHT
from inhouse.posttrain.messages import Message
from inhouse.posttrain.rows.encoded import ConversationWriter, Laid, is_written, lay
from inhouse.posttrain.rows.too_long import fit
from inhouse.posttrain.settings import SftSettings

HELDOUT = "heldout.jsonl"  # in a fine-tuned folder: own conversations that it was not trained on
_TAUGHT_KEPT = 5  # that the evaluate stage asks where none is held out
LEAST_TO_HOLD_OUT = 40  # different own conversations: of fewer, each is needed for training
_HELD_OUT_ONE_IN, _MOST_HELD_OUT = 20, 1_000
_CHUNK, _CHUNK_CHARACTERS = 1_000, 1 << 21  # conversations, or text, that a process encodes at a time
_COUNTED = ("conversations", "too_long", "trained_tokens")


class Sourced(NamedTuple):
    """A conversation and where it is from: the number of the user's file, or -1 for what an environment made."""

    file: int
    messages: list[Message]


class _Chunk(NamedTuple):
    """Encoded pieces of conversations, the file and the place in the chunk of the conversation of each, and `_COUNTED`
    of every file, in the last row of what was made."""

    laid: Laid
    files: np.ndarray
    places: np.ndarray
    num_read: int
    counts: np.ndarray


class _Encoding(NamedTuple):
    """How conversations become tokens; `stamp` is the time of the tokenizer's file."""

    settings: SftSettings
    tokenizer: Path
    stamp: int
    template: str


def gather(settings: SftSettings, data: Path, seed: int) -> Iterator[Sourced]:
    """Every conversation: the user's files, then the problems of each environment, worked."""
    for number, source in enumerate(settings.conversations):
        yield from (Sourced(number, messages) for messages in read_conversations(source.path))
    for environment in environments_of(settings.generated):
        for problem in environment.draw("train", settings.generated[environment.name], seed, data):
            yield Sourced(-1, worked(environment, problem))


def encode_all(settings: SftSettings, tokenizer: Path, template: str, data: Path, folder: Path, seed: int) -> None:
    """Write `folder/train` and, of enough own conversations, `folder/heldout` with the messages in heldout.jsonl; of
    fewer, the first that are trained on stand in taught.jsonl.

    Does nothing where an earlier attempt wrote them whole. Raises `ValueError` where there is no conversation, or none
    that fits into a row.
    """
    if is_written(folder / "train"):
        return
    vocab_size, bound = Tokenizer.load(tokenizer).vocab_size, _bound_of_held_out(settings)
    encoding = _Encoding(settings, tokenizer, (tokenizer / "tokenizer.json").stat().st_mtime_ns, template)
    held_out: list[list[Message]] = []

    def to_train_on() -> Iterator[Sourced]:
        for each in gather(settings, data, seed):
            if each.file >= 0 and _key(each.messages) < bound:
                held_out.append(each.messages)
            else:
                yield each

    writer = ConversationWriter(folder / "train", vocab_size)
    files, numbers, num_read = list[np.ndarray](), list[np.ndarray](), 0
    counts = np.zeros((len(settings.conversations) + 1, len(_COUNTED)), dtype=np.int64)
    with Progress("conversations", None, "conversations") as progress:
        for chunk in map_ordered(partial(_encode, encoding=encoding), _chunks(to_train_on()), 0):
            writer.add(chunk.laid)
            files.append(chunk.files)
            numbers.append(num_read + chunk.places)
            num_read += chunk.num_read
            counts += chunk.counts
            progress.update(chunk.num_read)
    total = dict(zip(_COUNTED, counts.sum(axis=0).tolist(), strict=True))
    if not writer.num_conversations:
        raise ValueError(_nothing(settings, total["too_long"]))
    if held_out:
        _write_held_out(folder, held_out, encoding, vocab_size)
    np.save(folder / "files.npy", np.concatenate(files))
    if not held_out:
        _write_taught(settings, folder, np.concatenate(files), np.concatenate(numbers))
    of_files = [dict(zip(_COUNTED, row, strict=True)) for row in counts[:-1].tolist()]
    writer.finish(**total, heldout=len(held_out), files=of_files)


def repeats(settings: SftSettings, folder: Path) -> np.ndarray | None:
    """How often each encoded conversation comes in an epoch, by its file's weight; at 0.5 every second one comes.

    None where each comes once.
    """
    weights = [*(source.weight for source in settings.conversations), 1.0]
    if all(weight == 1.0 for weight in weights):
        return None
    file_of = np.load(folder / "files.npy")
    found = np.ones(len(file_of), dtype=np.int32)
    for number, weight in enumerate(weights[:-1]):
        mine = file_of == number
        found[mine] = np.diff(np.ceil(np.arange(np.count_nonzero(mine) + 1) * weight))
    return found


def _nothing(settings: SftSettings, num_too_long: int) -> str:
    if not num_too_long:
        return "no conversations to fine-tune on: give [sft] conversations = [files], or counts in [sft.generated]"
    return (
        f"none of {num_too_long:,} conversations fits into sequence_length = {settings.sequence_length} tokens: raise "
        'it, give shorter ones, or set [sft] too_long = "truncate"'
    )


def _bound_of_held_out(settings: SftSettings) -> int:
    """Own conversations whose key is below it are held out; 0, so none, where there are few different ones."""
    number, different = 0, set[int]()
    for source in settings.conversations:
        for messages in read_conversations(source.path):
            number += 1
            if len(different) < LEAST_TO_HOLD_OUT:
                different.add(_key(messages))
    share = max(_HELD_OUT_ONE_IN, number / _MOST_HELD_OUT)
    return int(2**64 / share) if len(different) == LEAST_TO_HOLD_OUT else 0


def _key(messages: list[Message]) -> int:
    """64 bits of the content, so that copies fall on one side."""
    text = json.dumps(messages, sort_keys=True, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8])


def _write_held_out(folder: Path, held_out: list[list[Message]], encoding: _Encoding, vocab_size: int) -> None:
    write_atomic(folder / HELDOUT, _as_lines(held_out))
    writer = ConversationWriter(folder / "heldout", vocab_size)
    writer.add(_encode([Sourced(-1, messages) for messages in held_out], encoding).laid)
    if writer.num_conversations:
        writer.finish()


def _write_taught(settings: SftSettings, folder: Path, files: np.ndarray, numbers: np.ndarray) -> None:
    """The first own conversations of which a part comes in an epoch; `numbers` are those of the pieces, from 0."""
    times = repeats(settings, folder)
    is_taught = (files >= 0) & (True if times is None else times > 0)
    wanted = np.unique(numbers[is_taught])[:_TAUGHT_KEPT].tolist()
    if wanted:
        own = chain.from_iterable(read_conversations(source.path) for source in settings.conversations)
        taught = [messages for number, messages in enumerate(islice(own, wanted[-1] + 1)) if number in wanted]
        write_atomic(folder / TAUGHT, _as_lines(taught))


def _as_lines(conversations: Iterable[list[Message]]) -> str:
    return "".join(json.dumps({"messages": messages}, ensure_ascii=False) + "\n" for messages in conversations)


def _chunks(conversations: Iterable[Sourced]) -> Iterator[list[Sourced]]:
    chunk: list[Sourced] = []
    characters = 0
    for each in conversations:
        chunk.append(each)
        characters += sum(len(message.get("content") or "") for message in each.messages)
        if len(chunk) == _CHUNK or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _encode(chunk: list[Sourced], encoding: _Encoding) -> _Chunk:
    settings, tokenizer = encoding.settings, _tokenizer(encoding.tokenizer, encoding.stamp)
    encode = partial(encode_conversation, tokenizer, template=encoding.template)
    counts = np.zeros((len(settings.conversations) + 1, len(_COUNTED)), dtype=np.int64)
    found, files, places = list[Encoded](), list[int](), list[int]()
    for place, (file, messages) in enumerate(chunk):
        pieces, was_too_long = fit(encode, messages, settings.sequence_length, settings.too_long)
        found += pieces
        files += [file] * len(pieces)
        places += [place] * len(pieces)
        counts[file] += bool(pieces), was_too_long, sum(sum(piece.trained) for piece in pieces)
    laid = lay(found, dtype_for(tokenizer.vocab_size))
    return _Chunk(laid, np.array(files, dtype=np.int32), np.array(places, dtype=np.int64), len(chunk), counts)


@lru_cache(1)
def _tokenizer(path: Path, stamp: int) -> Tokenizer:
    """Loaded once a process: a large one takes a second."""
    return Tokenizer.load(path)
