"""Pairs as rows: the two answers of a pair lie one behind the other, so that whoever has one has both."""

import shutil
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from inhouse.common.files import digest
from inhouse.common.lineage import digest_of
from inhouse.common.progress import Progress
from inhouse.data.shards import dtype_for
from inhouse.data.tokenizer import Tokenizer
from inhouse.posttrain.chat_template import Encoded, encode_conversation
from inhouse.posttrain.conversation_files import conversation_files
from inhouse.posttrain.messages import Message
from inhouse.posttrain.rows.encode import LEAST_TO_HOLD_OUT
from inhouse.posttrain.rows.encoded import ConversationWriter, EncodedConversations, is_written, lay, size
from inhouse.rl.preference.pairs import Pair, read_pairs

_HELD_OUT_ONE_IN = 20


class _Counts(NamedTuple):
    """What became of the pairs in the files."""

    pairs: int = 0
    heldout: int = 0
    too_long: int = 0
    equal: int = 0


def encode_pairs(
    paths: Iterable[Path], tokenizer: Tokenizer, template: str, folder: Path, sequence_length: int
) -> None:
    """Write `folder/train` and, of enough different prompts, `folder/heldout`: chosen, rejected, chosen, ….

    A pair that is longer than a row is left out, as is one of equal answers. Does nothing where an earlier attempt
    wrote them whole, of these files as they are, for this tokenizer and length. Raises `ValueError` where no pair is
    left.
    """
    paths = list(paths)
    made_of = _made_of(paths, tokenizer, template, sequence_length)
    if is_written(folder / "train") and EncodedConversations(folder / "train").index.get("made_of") == made_of:
        return
    for name in ("train", "heldout"):
        shutil.rmtree(folder / name, ignore_errors=True)
    one_in = _HELD_OUT_ONE_IN if _are_many(chain.from_iterable(map(read_pairs, paths))) else 0
    train, heldout = (ConversationWriter(folder / name, tokenizer.vocab_size) for name in ("train", "heldout"))
    counts = dict.fromkeys(_Counts._fields, 0)
    with Progress("pairs", None, "pairs") as progress:
        for pair in chain.from_iterable(map(read_pairs, paths)):
            progress.update()
            both = [last_answer(encode_conversation(tokenizer, side, template)) for side in pair]
            if both[0].ids == both[1].ids:
                counts["equal"] += 1
            elif sum(map(size, both)) > sequence_length:
                counts["too_long"] += 1
            else:
                is_held_out = bool(one_in) and _key(pair.chosen[:-1]) % one_in == 0
                counts["heldout" if is_held_out else "pairs"] += 1
                (heldout if is_held_out else train).add(lay(both, dtype_for(tokenizer.vocab_size)))
    if not counts["pairs"]:
        raise ValueError(
            f"none of {sum(counts.values()):,} pairs can be learnt from: {counts['too_long']:,} do not fit into "
            f"sequence_length = {sequence_length} tokens, {counts['equal']:,} have equal answers"
        )
    if counts["heldout"]:
        heldout.finish()
    train.finish(**counts, made_of=made_of)


def _made_of(paths: list[Path], tokenizer: Tokenizer, template: str, sequence_length: int) -> str:
    """A digest of all that the rows hang on."""
    files = [digest(file) for path in paths for file in conversation_files(path)]
    return digest_of([files, tokenizer.vocabulary, tokenizer.special, template, sequence_length])


def last_answer(encoded: Encoded) -> Encoded:
    """The same conversation, of which the last answer alone is trained on."""
    end = len(encoded.trained) - encoded.trained[::-1].index(True)
    start = next((place + 1 for place in reversed(range(end)) if not encoded.trained[place]), 0)
    return Encoded(encoded.ids, [start <= place < end for place in range(len(encoded.ids))])


def _are_many(pairs: Iterable[Pair]) -> bool:
    """Whether there are enough different prompts to hold some out."""
    different: set[int] = set()
    for pair in pairs:
        different.add(_key(pair.chosen[:-1]))
        if len(different) >= LEAST_TO_HOLD_OUT:
            return True
    return False


def _key(prompt: list[Message]) -> int:
    """64 bits of a prompt, so that all pairs of one fall on one side."""
    return int(digest_of(prompt).removeprefix("sha256:")[:16], 16)
