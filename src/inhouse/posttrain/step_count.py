"""How many rows and steps a fine-tuning has, and of whose. No torch: it is said before anything is encoded."""

import json
import math
from itertools import islice
from typing import NamedTuple

from inhouse.environments.registry import environment_of
from inhouse.model.sizes import Derived
from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.posttrain.messages import Message
from inhouse.posttrain.settings import SftSettings

STEPS_AN_EPOCH = 4  # at least, where there are so many rows: few conversations make smaller steps
LEAST_ROWS = 8  # a handful of conversations is spread over so many, or each has its own: else all were one step
_DRAWN = 20  # problems of a kind that the length of all is estimated from
_BYTES_A_TOKEN, _TURN_TOKENS = 3.5, 5  # roughly; what the template adds
_LIBRARY_BYTES = 200.0  # of a question on a document and its answer, whose text is not read here
_LEAST_ONE_IN = 50  # of an epoch's: 300 lines beside the default's 14,500 were learnt, five were not
_ENOUGH_ONE_IN = 20  # what the weight that is named comes to
_LARGEST_WEIGHT = 1_000


class Rows(NamedTuple):
    """Of one step: of conversations, and of replayed text."""

    conversations: int
    replayed: int

    @property
    def total(self) -> int:
        return self.conversations + self.replayed


def rows_a_step(settings: SftSettings, num_rows: int) -> Rows:
    """As the settings say, but few conversations make small steps, on one process and on many.

    At least one row is conversations, and where text is replayed at least one is text; a single row is no text.
    """
    wanted = max(1, num_rows // STEPS_AN_EPOCH) / (1 - settings.replay)
    total = min(settings.rows(), math.ceil(wanted))
    replayed = min(total - 1, max(1, round(total * settings.replay))) if settings.replay else 0
    return Rows(total - replayed, replayed)


def count_steps(settings: SftSettings, num_rows: int, rows: Rows) -> int:
    return max(1, math.ceil(settings.epochs * num_rows / rows.conversations))


def plan_sft(settings: SftSettings, seed: int) -> list[Derived]:
    """What a fine-tuning comes to, before it is encoded: conversations, and by their bytes about how many steps.

    Reads the user's files. Raises `ValueError` as `read_conversations` does.
    """
    own = generated = 0
    num_bytes = num_turns = 0.0
    for source in settings.conversations:
        for messages in read_conversations(source.path):
            own += 1
            num_bytes += source.weight * _size(messages)
            num_turns += source.weight * len(messages)
    for name, count in settings.generated.items():
        drawn = list(islice(environment_of(name).draw("train", min(count, _DRAWN), seed, None), _DRAWN))
        sizes = [len(problem.prompt.encode()) + len(problem.worked.encode()) for problem in drawn]
        generated += count
        num_bytes += count * (sum(sizes) / len(sizes) if sizes else _LIBRARY_BYTES)
        num_turns += 2 * count
    tokens = num_bytes / _BYTES_A_TOKEN + _TURN_TOKENS * num_turns
    num_rows = max(min(own + generated, LEAST_ROWS), math.ceil(tokens / settings.sequence_length))
    rows = rows_a_step(settings, num_rows)
    return [
        Derived("own conversations", own, "counted in the files"),
        Derived("made conversations", generated, "the counts in generated, at most"),
        Derived("rows a step", rows.total, f"batch_tokens / sequence_length, at least {STEPS_AN_EPOCH} steps a pass"),
        Derived("replayed rows a step", rows.replayed, "replay × rows a step"),
        Derived("steps, about", count_steps(settings, num_rows, rows), "epochs × rows / rows a step, from bytes"),
    ]


def lost_beside_made(settings: SftSettings) -> str | None:
    """The sentence for a few own conversations among many made ones; None where there are enough, or none at all.

    Reads no more of the files than it takes to know. Raises `ValueError` as `read_conversations` does.
    """
    made, number, own = sum(settings.generated.values()), 0, 0.0
    enough = made / (_LEAST_ONE_IN - 1)
    for source in settings.conversations:
        needed = max(0, math.ceil((enough - own) / source.weight))
        found = sum(1 for _ in islice(read_conversations(source.path), needed))
        number, own = number + found, own + found * source.weight
    if not number or own >= enough:
        return None
    weight = min(_LARGEST_WEIGHT, math.ceil(made / (_ENOUGH_ONE_IN - 1) / number))
    return (
        f"[sft] {number:,} conversation{'s' * (number != 1)} of your own beside {made:,} made by code will hardly be "
        f"learnt: give more, each question in several phrasings, or weight = {weight}, or generated = {{}}"
    )


def _size(messages: list[Message]) -> int:
    return sum(len(json.dumps(message, ensure_ascii=False)) - 40 for message in messages)
