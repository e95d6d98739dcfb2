"""Reading conversations of all known layouts, and saying before anything is trained what files hold."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from inhouse.common.progress import Progress
from inhouse.common.terminal import visible
from inhouse.posttrain.conversation_files import conversation_files, read_records
from inhouse.posttrain.layouts import Conversation, to_conversation
from inhouse.posttrain.messages import Message

_KEYS_SHOWN = 10
_LARGE = 100_000_000  # bytes: reading more takes so long that a bar is shown


class Placed(NamedTuple):
    """A conversation and where it stands: `line 3`, `record 3`, `row 3`."""

    file: Path
    place: str
    conversation: Conversation


class Contents(NamedTuple):
    """What one file holds: conversations by layout, and the keys that were passed over."""

    file: Path
    layouts: Counter[str]
    ignored: frozenset[str]

    def sentence(self) -> str:
        """`answers.jsonl: 312 conversations, ShareGPT`."""
        total = self.layouts.total()
        parts = [f"{layout} {count:,}" for layout, count in self.layouts.most_common()]
        layouts = next(iter(self.layouts)) if len(parts) == 1 else ", ".join(parts)
        said = f"{self.file.name}: {total:,} conversation{'s' * (total != 1)}, {layouts}"
        if self.ignored:
            more = f" and {len(self.ignored) - _KEYS_SHOWN} more" * (len(self.ignored) > _KEYS_SHOWN)
            said += f" (passed over: {', '.join(sorted(self.ignored)[:_KEYS_SHOWN])}{more})"
        return visible(said).replace("\n", visible("\r"))  # keys are a stranger's: one line, nothing obeyed


def read_placed(path: Path) -> Iterator[Placed]:
    """Every conversation of a file, or of a folder's files, with its place.

    Raises ValueError naming file and place for what is no conversation with an assistant's answer, and for a file that
    holds none; FileNotFoundError for a path that is not there.
    """
    for file in conversation_files(path):
        is_empty = True
        for place, record in read_records(file):
            try:
                yield Placed(file, place, to_conversation(record))
            except ValueError as error:
                raise ValueError(f"{file}, {place}: {error}") from None
            is_empty = False
        if is_empty:
            raise ValueError(f"{file}: holds no conversations; fill it, or leave it out")


def read_conversations(path: Path) -> Iterator[list[Message]]:
    """The messages of every conversation in a file or folder. Raises as `read_placed` does."""
    return (placed.conversation.messages for placed in read_placed(path))


def check_conversations(paths: Iterable[Path], say: Callable[[str], None] = print) -> list[Contents]:
    """Parse all files, and say of each what it holds. Raises as `read_placed` does: before hours of training."""
    contents = []
    for file in (file for path in paths for file in conversation_files(path)):
        layouts: Counter[str] = Counter()
        ignored: frozenset[str] = frozenset()
        with Progress(file.name, None, "conversations", shown=file.stat().st_size > _LARGE) as progress:
            for placed in read_placed(file):
                layouts[placed.conversation.layout] += 1
                ignored |= placed.conversation.ignored
                progress.update()
        contents.append(Contents(file, layouts, ignored))
        say(contents[-1].sentence())
    return contents
