"""What the web is kept in: HTML, and the archives of crawlers (WARC, and WET, their text). Both need an extra.

The text of a page is all of it, in the order of its markup; nothing is taken for boilerplate.
"""

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from itertools import count
from typing import Any

from inhouse.data.findings import BadInput
from inhouse.data.readers.encodings import decode
from inhouse.data.readers.records import Record
from inhouse.data.readers.streams import guarded, guarded_items

# elements that stand apart from what is around them, and those that only begin a line
_PARAGRAPHS = {
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "pre", "blockquote", "section", "article",
}  # fmt: skip
_LINES = {
    "br", "li", "dt", "dd", "tr", "div", "aside", "details", "summary", "figcaption", "footer", "form", "header", "hr",
    "main", "nav", "option", "caption", "address", "figure", "fieldset", "legend", "thead", "tbody",
}  # fmt: skip
_WITHOUT_TEXT = ["script", "style", "template", "noscript", "svg", "iframe", "object"]
_EXTRA = "pip install 'inhouse[web]'"


def html_text(markup: str) -> str:
    """The text of a page: blocks on lines of their own, the cells of a table apart, preformatted text as it is.

    Raises `BadInput` where the parser is not installed.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError:
        raise BadInput("missing_extra", _EXTRA) from None
    page = LexborHTMLParser(markup)
    page.strip_tags(_WITHOUT_TEXT)
    text = "".join(_pieces(page.body)) if page.body is not None else ""
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<![ \t])[ \t]+\n", "\n", text)).strip()


def _pieces(body: Any) -> Iterator[str]:
    """The text in order, with a loop of its own: pages nest deeper than Python calls."""
    node, preformatted, is_at_start = body, 0, True
    while True:
        text = _break(node.tag)
        if node.tag in ("td", "th") and not is_at_start:
            text = "\t"
        elif node.tag == "-text":
            text = node.text_content or ""
            if not preformatted:
                text = re.sub(r"\s+", " ", text)
                text = text.lstrip() if is_at_start else text
        if text:
            yield text
            is_at_start = text[-1] in " \n\t"
        if node.child is not None:
            preformatted += node.tag == "pre"
            node = node.child
            continue
        while node.next is None or node.mem_id == body.mem_id:
            if node.mem_id == body.mem_id:
                return
            node = node.parent
            preformatted -= node.tag == "pre"
            if end := _break(node.tag):
                yield end
                is_at_start = True
        node = node.next


def _break(tag: str) -> str:
    return "\n\n" if tag in _PARAGRAPHS else "\n" if tag in _LINES else ""


def warc_records(stream: Any, name: str, limit: int) -> Iterator[Record]:
    """The pages of a web archive, as text: answers of servers with HTML or plain text, and texts made of them."""
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError:
        raise BadInput("missing_extra", _EXTRA) from None
    archive = ArchiveIterator(stream)
    records = guarded_items(iter(archive), name)
    for number in count(1):
        with redirect_stderr(io.StringIO()):  # warcio's own warnings: they are counted here
            record = next(records, None)
        if archive.err_count:
            raise BadInput("damaged", "a record is not as long as it says", name)
        if record is None:
            return
        if record.rec_type in ("response", "resource", "conversion"):
            data = guarded(record.content_stream(), name).read(limit + 1)
            if len(data) <= limit and getattr(record.raw_stream, "limit", 0) > 0:
                raise BadInput("damaged", "it ends inside a record", name)
            yield _page(number, record, data, limit)


def _page(number: int, record: Any, data: bytes, limit: int) -> Record:
    headers = record.http_headers or record.rec_headers
    if record.http_headers is not None and not headers.get_statuscode().startswith("2"):
        return Record(number, None)
    kind = (headers.get_header("Content-Type") or "").lower()
    try:
        if len(data) > limit:
            raise BadInput("oversized", f"a page of more than {limit:,} bytes")
        if "html" not in kind and not kind.startswith("text/plain"):
            raise BadInput("binary", kind or "without a type")
        text, encoding = decode(data)
        return Record(number, html_text(text) if "html" in kind else text, len(data), encoding)
    except BadInput as bad:
        return Record(number, None, len(data), bad=bad)
