"""Images in messages: in the request itself, or behind an address that only the model's provider reads.

Only who parses with `images=True` takes them (`Request.parse`): everybody else refuses them as ever.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

MAX_IMAGES = 100  # of one message
MAX_ADDRESS = 8192  # characters
Detail = Literal["auto", "low", "high"]
KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_INLINE = re.compile(rf"data:({'|'.join(KINDS)});base64,[A-Za-z0-9+/]")  # the provider reads the rest: megabytes


class Image(NamedTuple):
    """`url` is a data: URL with base64, or an https: one, which nobody here ever opens."""

    url: str
    detail: Detail = "auto"

    @property
    def is_inline(self) -> bool:
        return self.url.startswith("data:")

    @property
    def inline(self) -> tuple[str, str]:
        """Its media type and its base64."""
        kind, _, data = self.url.removeprefix("data:").partition(";base64,")
        return kind, data


Part = str | Image


def takes_images(info: ValidationInfo) -> bool:
    return bool(info.context and info.context.get("images"))


def image(url: Any, detail: Any = "auto") -> Image:
    """Raises `PydanticCustomError` for what is no such image."""
    if not isinstance(url, str) or not (_is_https(url) or _INLINE.match(url)):
        known = ", ".join(KINDS)
        raise PydanticCustomError("image_url", f"an image is an https: URL or a data: URL with base64 ({known})")
    if detail not in ("auto", "low", "high"):
        raise PydanticCustomError("image_detail", "the detail of an image is auto, low or high")
    return Image(url, detail)


def _is_https(url: str) -> bool:
    if not url.startswith("https://") or len(url) > MAX_ADDRESS or not (url.isascii() and url.isprintable()):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and " " not in url and parts.username is None


def joined(parts: Sequence[Part]) -> str:
    """The texts alone."""
    return "\n".join(part for part in parts if isinstance(part, str))
