"""Which layout a file has: by its first bytes where they say so, else by the ending of its name."""

import re
from typing import Literal

from inhouse.data.findings import BadInput

Layout = Literal["zip", "tar", "parquet", "warc", "lines", "json", "html", "notebook", "subtitles", "text"]
HEAD = 512  # bytes that tell
_ENDINGS: dict[str, Layout] = {
    "zip": "zip", "tar": "tar", "parquet": "parquet", "pq": "parquet", "warc": "warc", "wet": "warc",
    "jsonl": "lines", "ndjson": "lines", "jsonlines": "lines", "json": "json",
    "html": "html", "htm": "html", "xhtml": "html", "ipynb": "notebook", "srt": "subtitles", "vtt": "subtitles",
}  # fmt: skip
_MAGIC: dict[Layout, re.Pattern[bytes]] = {
    "zip": re.compile(rb"PK(\x03\x04|\x05\x06)"),
    "tar": re.compile(rb".{257}ustar", re.DOTALL),
    "parquet": re.compile(rb"PAR[1E]"),
    "warc": re.compile(rb"WARC/\d"),
}
_OBJECT_LINE = re.compile(rb"\s*\{.*\}\s*$")


def layout_of(head: bytes, name: str) -> Layout:
    """The layout of what begins with `head` and is called `name`, compression undone on both.

    Raises `BadInput` where the name promises an archive and the bytes are none.
    """
    for layout, magic in _MAGIC.items():
        if magic.match(head):
            return layout
    named = _ENDINGS.get(name.rpartition(".")[2].lower(), "text")
    if named == "tar" and len(head) >= HEAD and not head[257:265].strip(b"\0 "):
        return "tar"  # older than its magic
    if named in ("tar", "parquet", "warc") and head:
        raise BadInput("damaged", f"its name says {named}, its bytes do not")
    if named in ("lines", "json"):
        return _json_layout(head, named)
    return named


def _json_layout(head: bytes, named: Layout) -> Layout:
    """An array is one by whatever name; a .json of one object a line is read by the line, so that a bad one costs
    only itself."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n\0\xff\xfe")
    if start.startswith(b"["):
        return "json"
    first, newline, _ = start.partition(b"\n")
    if named == "json" and b"\0" not in head and newline and _OBJECT_LINE.match(first):
        return "lines"
    return named
