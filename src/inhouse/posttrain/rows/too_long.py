"""Conversations that are longer than a row: left out, cut short, or split at their turns."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import chain

from inhouse.posttrain.chat_template import Encoded
from inhouse.posttrain.messages import Message
from inhouse.posttrain.rows.encoded import size
from inhouse.posttrain.settings import TooLong

Encode = Callable[[Sequence[Message]], Encoded]


def fit(encode: Encode, messages: Sequence[Message], length: int, too_long: TooLong) -> tuple[list[Encoded], bool]:
    """A conversation as examples that fit into a row of `length` tokens, and whether it was too long for one.

    `truncate` keeps the turns that fit, from the first on; `split` makes of the others further examples, each with the
    system message. A turn that is too long by itself is cut: the end of its answer is then not trained on, so that
    nobody learns to stop there.
    """
    whole = encode(messages)
    if size(whole) <= length:
        return [whole], False
    if too_long == "leave_out":
        return [], True
    lead = messages[:1] if messages[0]["role"] == "system" else []
    turns, pieces = _turns(messages[len(lead) :]), list[Encoded]()

    def first(count: int) -> Encoded | None:
        """Of the turns that are left; None where they hold nothing to train on."""
        try:
            return encode([*lead, *chain(*turns[:count])])
        except ValueError:
            return None

    def is_too_long(count: int) -> bool:
        piece = first(count)
        return piece is not None and size(piece) > length

    while turns:
        most = 1
        while most < len(turns) and not is_too_long(most):
            most *= 2
        # more turns are never shorter
        taken = bisect_right(range(1, min(most, len(turns)) + 1), False, key=is_too_long)
        if (piece := first(taken) if taken else None) is None:  # what fits has no answer: the next turn's is cut
            taken = min(taken + 1, len(turns))
            piece = _cut(first(taken), length)
        pieces += [piece] if piece else []
        turns = turns[taken:] if too_long == "split" else []
    return pieces, True


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    """A user's message and all that follows up to the next one."""
    turns: list[list[Message]] = []
    for message in messages:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _cut(encoded: Encoded | None, length: int) -> Encoded | None:
    """The beginning of a longer one, its last answer without an end; None where no answer begins in it."""
    if encoded is None or not any(encoded.trained[1 : length + 1]):
        return None
    return Encoded(encoded.ids[: length + 1], encoded.trained[: length + 1])
