"""Bytes to text: UTF-8, UTF-16 and UTF-32 with or without a byte order mark, and old 8-bit and Asian encodings."""

import codecs
import io
import re
from collections.abc import Iterator
from typing import IO, Any, cast

from charset_normalizer import from_bytes

from inhouse.data.findings import BadInput
from inhouse.data.readers.latin import LATIN, latin_encoding

_BLOCK = 1 << 20
_SAMPLE = 4096  # bytes that an old encoding is guessed from
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FORMATS = (b"%PDF-", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"7z\xbc\xaf", b"Rar!", b"\x7fELF", b"\x1f\x9d", b"MZ\x90")
# What texts are really kept in. Of more the guesses for short texts only get worse.
_OLD = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859_2", "koi8_r", "cp866",
    "cp850", "mac_roman", "cp874", "cp932", "euc_jp", "gb18030", "big5", "cp949",
]  # fmt: skip
_WIDE_TEXT = re.compile(
    r"[\t\n\r\f\x20-\x7e\u00a0-\u0dff\u0e00-\u10ff\u1e00-\u206f\u20a0-\u20bf\u2190-\u22ff\u3000-\u30ff\u4e00-\u9fff"
    r"\uac00-\ud7a3\uff00-\uffef]+"
)


def decode(data: bytes) -> tuple[str, str | None]:
    """The text of some bytes, and its encoding where that is not UTF-8.

    Raises `BadInput` where they are no text (binary) or in no known encoding (undecodable).
    """
    if b"\0" not in data:
        try:
            return data.decode().removeprefix("\ufeff"), None
        except UnicodeDecodeError:
            pass
    encoding = _named_encoding(data) or _old_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        raise BadInput("undecodable", f"not {encoding}, as it begins") from None
    if "\0" in text:
        raise BadInput("binary", "it has zero bytes")
    return text.removeprefix("\ufeff"), told(encoding)


def encoding_of(file: IO[bytes]) -> str:
    """The encoding of a text of any length, which is read to its end (and rewound). Raises as `decode` does."""
    head = file.read(4096)
    encoding = _named_encoding(head, is_whole=False) or "utf-8"
    if not _holds(file, encoding):
        if encoding != "utf-8":
            raise BadInput("undecodable", f"not {encoding}, as it begins")
        encoding = _old_encoding(_odd_lines(file))
        if not _holds(file, encoding):
            raise BadInput("undecodable", f"not UTF-8, and not {encoding} to its end")
    file.seek(0)
    return encoding


def told(encoding: str) -> str | None:
    """An encoding as it is counted: None for UTF-8."""
    return None if encoding in ("utf-8", "utf-8-sig") else encoding


def check_text(head: bytes) -> None:
    """Raise `BadInput` where a text, however long, cannot be one: before it is copied to be read twice."""
    _named_encoding(head, is_whole=False)


class _Recoded(io.RawIOBase):
    """A stream in one encoding as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream, self._decoder = stream, codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        while not self._rest and (block := self._stream.read(_BLOCK >> 4)):
            try:
                self._rest = self._decoder.decode(block).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise BadInput("undecodable", str(error)) from None
        count = min(len(view), len(self._rest))
        view[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def as_utf8(stream: IO[bytes], encoding: str | None = None) -> IO[bytes]:
    """A stream as UTF-8. Without an `encoding` it is what marks or zero bytes at its beginning tell."""
    if encoding is None:
        encoding = _named_encoding(stream.peek(4096)[:4096], is_whole=False) or "utf-8"  # type: ignore[attr-defined]
    if encoding in ("utf-8", "utf-8-sig"):
        return stream
    return cast(IO[bytes], io.BufferedReader(_Recoded(stream, encoding), _BLOCK >> 4))


def _holds(file: IO[bytes], encoding: str) -> bool:
    """Whether all of a file decodes. Raises `BadInput` where it has zero characters."""
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    try:
        while block := file.read(_BLOCK):
            if "\0" in decoder.decode(block):
                raise BadInput("binary", "it has zero bytes")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _named_encoding(data: bytes, is_whole: bool = True) -> str | None:
    """The encoding that marks or zero bytes tell; None: neither. Raises `BadInput` for zero bytes that tell none."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    if data.startswith(_FORMATS):
        raise BadInput("binary", "a picture, a program or a packed file")
    if b"\0" not in data:
        return None
    scores = {
        encoding: _wide_score(data[:4096], encoding, width)
        for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2))
        if not is_whole or len(data) % width == 0
    }
    likeliest = max(scores, key=scores.__getitem__, default="")
    if not likeliest or not scores[likeliest]:
        raise BadInput("binary", "it has zero bytes")
    return likeliest


def _wide_score(data: bytes, encoding: str, width: int) -> float:
    """How much like text bytes with zeros among them are at two or four bytes a character: 0 for not at all.

    Text is ASCII or of one script for the most part: of Chinese, Japanese or Korean, or of one block of 256 characters.
    """
    data = data[: len(data) // width * width]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if error.end < len(data):  # else a pair cut by the sample
            return 0
        text = data[: error.start].decode(encoding)
    if not text or not _WIDE_TEXT.fullmatch(text):
        return 0
    rows = [ord(character) >> 8 for character in text]
    num_ascii, num_asian = sum(map(str.isascii, text)), sum(0x30 <= row <= 0xD7 for row in rows)
    of_one_row = rows.count(max(set(rows), key=rows.count))
    is_text = max(num_ascii + num_asian, of_one_row) > len(rows) // 2
    return (num_ascii + of_one_row + num_asian / 2) / len(rows) if is_text else 0


def _old_encoding(data: bytes) -> str:
    """The likeliest encoding of text that is not UTF-8. Raises `BadInput` where there is none."""
    sample = _sample(data)
    matches = from_bytes(sample, cp_isolation=_OLD)
    best = matches.best()
    if best is None:
        raise BadInput("undecodable", "neither UTF-8 nor any other known encoding")
    return (latin_encoding(sample) if best.encoding in LATIN else None) or best.encoding


def _sample(data: bytes) -> bytes:
    """The lines that are not ASCII, and what stands at the top, where markup and programs declare their encoding."""
    if len(data) <= _SAMPLE:
        return data
    top = data[: data.rfind(b"\n", 0, 1024) + 1]
    odd, size = [top], 0
    for line in data[len(top) :].splitlines(keepends=True):
        if not line.isascii():
            odd.append(line)
            size += len(line)
            if size > _SAMPLE:
                break
    return b"".join(odd)


def _odd_lines(file: IO[bytes]) -> bytes:
    """Enough of a large file to guess its encoding from."""
    return b"".join(_take_odd_lines(file))


def _take_odd_lines(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    size = 0
    while size < 4 * _SAMPLE and (line := file.readline(_BLOCK)):
        if not line.isascii():
            size += len(line)
            yield line
