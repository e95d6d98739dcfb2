"""Whether the user's own conversations are lost beside those made by code. No torch: said before anything runs."""

import math
from itertools import islice

from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.posttrain.settings import SftSettings

_LEAST_ONE_IN = 50  # of an epoch's: 300 lines beside the default's 14,500 were learnt, five were not
_ENOUGH_ONE_IN = 20  # what the weight that is named comes to
_LARGEST_WEIGHT = 1_000


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
