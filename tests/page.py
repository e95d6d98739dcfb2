"""What a browser would fetch for a page: nothing, where the page is whole in one file."""

import re
from html.parser import HTMLParser

_FETCHING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background", "manifest"}


class _Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        for name, value in attributes:
            if name in _FETCHING:
                self.found.append(value or "")
            if name in ("style", "fill", "stroke", "clip-path", "filter", "mask"):
                self._look_into(value or "")

    def handle_data(self, text: str) -> None:
        if self._in_style:
            self._look_into(text)

    def _look_into(self, css: str) -> None:
        self.found += re.findall(r"""url\(\s*["']?([^"')]*)""", css)
        self.found += re.findall(r"""@import\s+["']([^"']*)""", css)


def fetched(page: str) -> list[str]:
    """Every address outside the page that its markup or its styles ask for."""
    parser = _Fetched()
    parser.feed(page)
    return [address for address in parser.found if not address.startswith(("#", "data:"))]
