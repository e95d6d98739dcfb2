"""How many rows and steps a fine-tuning has, known before anything is encoded as far as it can be. No torch."""

import math
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from inhouse.data.text_size import bytes_per_token
from inhouse.environments.registry import ENVIRONMENTS
from inhouse.model.sizes import Derived
from inhouse.posttrain.conversation_files import conversation_files
from inhouse.posttrain.conversation_reader import read_conversations
from inhouse.posttrain.messages import Message
from inhouse.posttrain.settings import ConversationSource, SftSettings

LEAST_ROWS = 8  # a handful of conversations is spread over so many, or each has its own: else all were one step
STEPS_AN_EPOCH = 4  # at least, where there are so many rows: few conversations make smaller steps
FEW_STEPS = 50  # below, most answers are not learnt (docs/conversations.md)
_COUNTED_BYTES = 16_000_000  # files of more are not read for a plan
_DRAWN = 100  # problems of each kind, to see how long they are
_TOKENS_A_MESSAGE = 5  # of the chat template


class Rows(NamedTuple):
    """Of one step: of conversations, and of replayed text."""

    conversations: int
    replayed: int

    @property
    def total(self) -> int:
        return self.conversations + self.replayed


def rows_a_step(settings: SftSettings, num_rows: int, unit: int) -> Rows:
    """As the settings say, but few conversations make small steps, of a multiple of `unit` rows all together."""
    wanted = max(1, num_rows // STEPS_AN_EPOCH) / (1 - settings.replay)
    return split_rows(min(settings.rows(), math.ceil(wanted / unit) * unit), settings.replay)


def split_rows(rows: int, share: float) -> Rows:
    """Rows of conversations and of replayed text in a step of `rows`: at least one of each; a single row is no text."""
    replayed = min(rows - 1, max(1, round(rows * share))) if share else 0
    return Rows(rows - replayed, replayed)


def num_steps(settings: SftSettings, num_rows: int, rows: Rows) -> int:
    """Steps in which every row comes `epochs` times."""
    return max(1, math.ceil(settings.epochs * num_rows / rows.conversations))


def few_steps(steps: int, settings: SftSettings) -> str | None:
    """The sentence for a fine-tuning that is too short to teach much."""
    if steps >= FEW_STEPS:
        return None
    enough = math.ceil(FEW_STEPS * settings.epochs / steps)
    return (
        f"[sft] {steps} step{'s' * (steps != 1)} of fine-tuning are few, and little will be learnt: give more "
        f"conversations, each question in several phrasings (some 50 a fact), or set epochs = {enough}"
    )


class SftPlan(NamedTuple):
    """What a recipe's fine-tuning comes to; None is what cannot be known before it runs."""

    conversations: int | None
    rows: int | None
    per_step: Rows | None
    steps: int | None
    is_most: bool  # the library may have fewer questions than are asked for
    warning: str | None

    def numbers(self) -> list[Derived]:
        """As rows of the dry run."""
        if self.conversations is None or self.per_step is None:
            return [Derived("conversations to train on", None, "large files are counted when they are encoded")]
        most = "at most: " if self.is_most else ""
        estimated = f"{most}estimated, by the bytes of the text"
        return [
            Derived("conversations to train on", self.conversations, f"{most}of files, by weight, and made by code"),
            Derived("rows of conversations", self.rows, estimated),
            Derived("rows a step", self.per_step.total, f"batch_tokens; fewer, for {STEPS_AN_EPOCH} steps an epoch"),
            Derived("replayed rows a step", self.per_step.replayed, "[sft] replay × rows a step"),
            Derived("steps", self.steps, f"{most}epochs × rows / rows of conversations a step"),
        ]


def plan_sft(settings: SftSettings, vocab_size: int, unit: int) -> SftPlan:
    """The steps of a fine-tuning, whose rows come in multiples of `unit` (the processes that have rows of their own).

    Small files are read, larger ones leave it open. Raises ValueError as reading conversations does.
    """
    sizes = [_own(source) for source in settings.conversations]
    if any(size is None for size in sizes):
        return SftPlan(None, None, None, None, False, None)
    sizes += [_made(name, count) for name, count in settings.generated.items()]
    conversations, num_bytes, messages = (sum(part) for part in zip(*filter(None, sizes), strict=True))
    tokens = num_bytes / bytes_per_token(vocab_size) + _TOKENS_A_MESSAGE * messages
    number = max(1, round(conversations))
    rows = max(min(LEAST_ROWS, number), math.ceil(tokens / settings.sequence_length))
    per_step = rows_a_step(settings, rows, unit)
    steps = num_steps(settings, rows, per_step)
    is_most = bool(settings.generated.get("library"))
    return SftPlan(number, rows, per_step, steps, is_most, few_steps(steps, settings))


class _Size(NamedTuple):
    conversations: float
    num_bytes: float
    messages: float

    def times(self, factor: float) -> "_Size":
        return _Size(*(factor * each for each in self))


def _own(source: ConversationSource) -> _Size | None:
    if sum(file.stat().st_size for file in conversation_files(source.path)) > _COUNTED_BYTES:
        return None
    return _size(read_conversations(source.path)).times(source.weight)


def _made(name: str, count: int) -> _Size:
    """Of `count` problems, by the first of them; those that ask about documents are taken to be like strings."""
    kind = "strings" if name == "library" else name
    drawn = islice(ENVIRONMENTS[kind].draw("train", min(count, _DRAWN), 0, None), _DRAWN)
    size = _size([{"content": problem.prompt}, {"content": problem.worked}] for problem in drawn)
    return size.times(count / max(1, size.conversations))


def _size(conversations: Iterable[list[Message]]) -> _Size:
    number = num_bytes = messages = 0
    for conversation in conversations:
        number += 1
        messages += len(conversation)
        num_bytes += sum(len((message.get("content") or "").encode()) for message in conversation)
    return _Size(number, num_bytes, messages)
