"""`inhouse data show`: documents as readable text, each with its source, its size and what will become of it."""

from collections.abc import Iterator
from itertools import islice

from rich.text import Text

from inhouse.common.terminal import visible
from inhouse.data.look import Look, Seen
from inhouse.data.separators import ANY_SEPARATOR, separators_in

LINES_SHOWN, CHARACTERS_SHOWN = 12, 200


def show_documents(look: Look, number: int, heldout_only: bool) -> Iterator[Text]:
    """Up to `number` documents, or of those that are held out the held-out part; then what was met on the way."""
    wanted = (seen for seen in look if seen.heldout or not heldout_only)
    num_shown = 0
    for seen in islice(wanted, number):
        num_shown += 1
        yield _head(seen)
        yield _body(seen.heldout if heldout_only else seen.document.text)
    skipped = visible(look.findings.summary())
    yield Text(f"{num_shown:,} of {look.num_read:,} documents read are shown; {skipped}", style="dim")


def _head(seen: Seen) -> Text:
    source, document = seen.source, seen.document
    size = f"{len(document.text.encode()):,} bytes"
    head = Text.assemble((visible(document.id), "bold cyan"), f"  {source.name}, {visible(source.licence)}, {size}, ")
    head.append(seen.fate, "bold yellow" if seen.heldout else "green")
    for separator, count in separators_in(document.text).items():
        head.append(f", {count:,} × {separator}", "bold magenta")
    return head


def _body(text: str) -> Text:
    lines = text.split("\n", LINES_SHOWN)
    more = len(lines) > LINES_SHOWN
    shown = [line[:CHARACTERS_SHOWN] + "…" * (len(line) > CHARACTERS_SHOWN) for line in lines[:LINES_SHOWN]]
    body = Text(visible("\n".join(f"    {line}".rstrip(" ") for line in shown)) + "\n    …" * more + "\n")
    body.highlight_regex(ANY_SEPARATOR, "bold magenta")
    return body
