"""Odd files that people have, made by code, and what must come of each: documents, or a name with a reason.

A case is a folder; paths are relative to it. Damage is made from whole files, by cutting and by flipping bytes.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import zstandard

NOISE = random.Random(0).randbytes(5000)  # what no compressor makes smaller
PROSE = {
    "cp1252": "Le garçon a mangé une crêpe à la fête ; naïve café, « déjà vu ». Où est-il allé ?\n",
    "mac_roman": "Le garçon à l’école a reçu un « déjà vu » de l’été à Noël ; où va-t-il après ?\n",
    "cp1257": "Šiandien yra graži diena, ir mes einame į mišką. Žmonės šneka lietuviškai.\n",
    "cp1251": "Это обычный русский текст, который был записан в старой кодировке.\n",
    "koi8_r": "Это другой русский текст, который был записан в старой кодировке Unix.\n",
    "cp866": "Это третий русский текст, который был записан в кодировке ДОС.\n",
    "iso8859_2": "Příliš žluťoučký kůň úpěl ďábelské ódy a šel domů.\n",
    "cp1253": "Αυτό είναι ένα απλό ελληνικό κείμενο για δοκιμή κωδικοποίησης.\n",
    "cp1254": "Türkçe karakterler: ğüşiöç İstanbul'da yaşıyor ve çalışıyor.\n",
    "cp1255": "זהו טקסט פשוט בעברית לבדיקת קידוד התווים במערכת.\n",
    "cp1256": "هذا نص عربي بسيط لاختبار ترميز الحروف في النظام.\n",
    "cp932": "これは日本語のテキストです。文字コードの検査に使います。\n",
    "euc_jp": "これも日本語のテキストです。文字コードの検査に使います。\n",
    "gb18030": "这是一个中文文本，用来测试编码检测。我们希望它能被正确识别。\n",
    "big5": "這是一個中文文本，用來測試編碼檢測。我們希望它能被正確識別。\n",
    "cp949": "이것은 한국어 텍스트입니다. 문자 인코딩을 검사하는 데 사용됩니다.\n",
}
WIDE = "A text with some words, naïve ones too; 中文 and кириллица.\n"


@dataclass
class Odd:
    """One case. `files` by name, or `make` for what bytes alone are not; `skipped` names what, of each kind."""

    name: str
    files: dict[str, bytes] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    reason: str = ""  # part of what is said of the first that was skipped
    encodings: dict[str, int] = field(default_factory=dict)
    excluded: int = 0
    empty: int = 0
    make: Callable[[Path], None] | None = None

    def write(self, folder: Path) -> None:
        folder.mkdir()
        for name, data in self.files.items():
            path = Path(os.fsdecode(os.fsencode(folder / name)))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if self.make is not None:
            self.make(folder)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def parquet(columns: dict[str, object], **options: object) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), buffer, **options)
    return buffer.getvalue()


def lines(*values: object) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def flipped(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0xFF
    return bytes(changed)


def warc(*records: tuple[str, str, bytes]) -> bytes:
    """Records of (type, further headers, content)."""
    made = []
    for kind, headers, content in records:
        head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.example/\r\n{headers}"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        made.append(head.encode() + content + b"\r\n\r\n")
    return b"".join(made)


def answer(
    content: bytes, kind: str = "text/html", status: str = "200 OK", headers: str = ""
) -> tuple[str, str, bytes]:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}\r\n".encode()
    return "response", "Content-Type: application/http; msgtype=response\r\n", head + content


def cases() -> list[Odd]:
    made = [
        case
        for group in (
            encodings,
            compressions,
            archives,
            names,
            records,
            tables,
            markup,
            damages,
            bombs,
            layouts_by_content,
            places,
        )
        for case in group()
    ]
    assert len({case.name for case in made}) == len(made)
    return made


def encodings() -> Iterator[Odd]:
    for encoding, prose in PROSE.items():
        name = f"old-{encoding}"
        yield Odd(name, {"x.txt": (prose * 4).encode(encoding)}, {"x.txt": prose * 4}, encodings={encoding: 1})
    yield Odd(
        "old-short",
        {"x.txt": "Größe: naïve café\n".encode("cp1252")},
        {"x.txt": "Größe: naïve café\n"},
        encodings={"cp1252": 1},
    )
    late = "plain words\n" * 3000 + PROSE["cp1252"] * 3
    yield Odd("old-behind-much-ascii", {"x.txt": late.encode("cp1252")}, {"x.txt": late}, encodings={"cp1252": 1})
    yield Odd(
        "old-declared-html",
        {"x.html": ('<meta charset="windows-1251"><p>' + PROSE["cp1251"]).encode("cp1251")},
        {"x.html": PROSE["cp1251"].strip()},
        encodings={"cp1251": 1},
    )
    for encoding, told in (("utf-8-sig", None), ("utf-16", "utf-16"), ("utf-32", "utf-32")):
        yield Odd(
            f"marked-{encoding}",
            {"x.txt": (WIDE + encoding).encode(encoding)},
            {"x.txt": WIDE + encoding},
            encodings={told: 1} if told else {},
        )
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield Odd(
            f"unmarked-{encoding}",
            {"x.txt": (WIDE + encoding).encode(encoding)},
            {"x.txt": WIDE + encoding},
            encodings={encoding: 1},
        )
    yield Odd(
        "marked-utf-16-be",
        {"x.txt": b"\xfe\xff" + "big end first".encode("utf-16-be")},
        {"x.txt": "big end first"},
        encodings={"utf-16": 1},
    )
    yield Odd(
        "utf-16-cut",
        {"x.txt": "a text cut inside a character".encode("utf-16")[:-1]},
        skipped={"undecodable": ["x.txt"]},
    )
    yield Odd(
        "utf-16-lines",
        {"x.jsonl": lines({"text": "wide one"}, {"text": "wide двa"}).decode().encode("utf-16")},
        {"x.jsonl#1": "wide one", "x.jsonl#2": "wide двa"},
    )
    yield Odd(
        "utf-16-array",
        {"x.json": json.dumps([{"text": "wide three"}]).encode("utf-16")},
        {"x.json#1": "wide three"},
        encodings={"utf-16": 1},
    )
    yield Odd(
        "marked-lines", {"x.jsonl": b"\xef\xbb\xbf" + lines({"text": "behind a mark"})}, {"x.jsonl#1": "behind a mark"}
    )
    yield Odd(
        "old-lines",
        {"x.jsonl": lines({"text": PROSE["cp1252"] + "."}).decode().encode("cp1252")},
        {"x.jsonl#1": PROSE["cp1252"] + "."},
        encodings={"cp1252": 1},
    )
    yield Odd("carriage-returns", {"x.txt": b"one\rtwo\rthree\r"}, {"x.txt": "one\rtwo\rthree\r"})
    yield Odd("windows-lines", {"x.txt": b"un\r\ndeux\r\n"}, {"x.txt": "un\r\ndeux\r\n"})
    yield Odd("form-feeds", {"x.txt": b"page one\x0cpage two\x1b[0m"}, {"x.txt": "page one\x0cpage two\x1b[0m"})
    yield Odd("random-bytes", {"x.bin": bytes(byte or 1 for byte in NOISE)}, skipped={"undecodable": ["x.bin"]})
    yield Odd("zero-bytes", {"x.txt": b"words\0and words"}, skipped={"binary": ["x.txt"]}, reason="zero bytes")
    yield Odd("pdf", {"x.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\nstream"}, skipped={"binary": ["x.pdf"]})
    yield Odd("jpeg", {"x.jpg": b"\xff\xd8\xff\xe0 no zero byte at all"}, skipped={"binary": ["x.jpg"]})
    yield Odd(
        "empty-and-blank", {"x.txt": b"", "y.txt": b" \n\t\r\n", "z.jsonl": b"\n\n", "u.txt": b"\xef\xbb\xbf"}, empty=4
    )
    broken = ("words\n" * 500 + "naïve").encode() + b"\xe2\x28 and " + "中文".encode() * 300
    yield Odd("utf-8-with-a-broken-byte", {"x.txt": broken + b"\x81\x8d\x8f"}, skipped={"undecodable": ["x.txt"]})


def compressions() -> Iterator[Odd]:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": zstandard.ZstdCompressor(write_checksum=True).compress,
    }
    for ending, pack in packers.items():
        text = f"a text in {ending}"
        yield Odd(f"{ending}-text", {f"x.txt.{ending}": pack(text.encode())}, {f"x.txt.{ending}": text})
        record = lines({"text": f"a record in {ending}"})
        yield Odd(
            f"{ending}-lines",
            {f"X.JSONL.{ending.upper()}": pack(record)},
            {f"X.JSONL.{ending.upper()}#1": f"a record in {ending}"},
        )
        yield Odd(f"{ending}-by-content", {"x": pack(f"nameless {ending}".encode())}, {"x": f"nameless {ending}"})
        two = pack(f"one {ending} ".encode()) + pack(b"and another")
        yield Odd(f"{ending}-two-streams", {f"x.{ending}": two}, {f"x.{ending}": f"one {ending} and another"})
        whole = pack(NOISE.hex().encode())
        yield Odd(
            f"{ending}-cut", {f"x.txt.{ending}": whole[: len(whole) // 2]}, skipped={"damaged": [f"x.txt.{ending}"]}
        )
        yield Odd(
            f"{ending}-flipped",
            {f"x.txt.{ending}": flipped(whole, len(whole) // 2)},
            skipped={"damaged": [f"x.txt.{ending}"]},
        )
    yield Odd(
        "lzma-alone", {"x.txt.lzma": lzma.compress(b"an old lzma", lzma.FORMAT_ALONE)}, {"x.txt.lzma": "an old lzma"}
    )
    yield Odd("gz-called-zst", {"x.txt.zst": gzip.compress(b"a wrong name")}, {"x.txt.zst": "a wrong name"})
    yield Odd("packed-twice", {"x.txt.gz.xz": lzma.compress(gzip.compress(b"twice"))}, {"x.txt.gz.xz": "twice"})
    deep = b"four times"
    for _ in range(4):
        deep = gzip.compress(deep)
    yield Odd("packed-four-times", {"x.gz": deep}, skipped={"nested": ["x.gz"]})
    yield Odd(
        "no-gzip",
        {"x.txt.gz": b"<html>404 not found</html>"},
        skipped={"damaged": ["x.txt.gz"]},
        reason="first bytes are not those",
    )
    long_window = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    ).compress(b"a long window")
    yield Odd("zst-long-window", {"x.txt.zst": long_window}, {"x.txt.zst": "a long window"})
    seek_table = b"\x5e\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    yield Odd(
        "zst-skippable",
        {"x.txt.zst": zstandard.compress(b"a seek table behind") + seek_table},
        {"x.txt.zst": "a seek table behind"},
    )
    yield Odd(
        "gz-checksum",
        {"x.jsonl.gz": flipped(gzip.compress(lines({"text": "before the checksum"})), -5)},
        {"x.jsonl.gz#1": "before the checksum"},
        {"damaged": ["x.jsonl.gz"]},
    )
    yield Odd("7z", {"x.7z": b"7z\xbc\xaf\x27\x1c\x00\x04"}, skipped={"binary": ["x.7z"]})


def archives() -> Iterator[Odd]:
    one = {"a.txt": b"member of %s", "sub/b.md": b"second of %s", "c.jsonl": b'{"text": "record of %s"}\n'}
    formats: dict[str, Callable[[dict[str, bytes]], bytes]] = {
        "zip": zipped,
        "tar": tarred,
        "tar.gz": lambda m: gzip.compress(tarred(m)),
        "tgz": lambda m: gzip.compress(tarred(m)),
        "tar.bz2": lambda m: bz2.compress(tarred(m)),
        "tar.xz": lambda m: lzma.compress(tarred(m)),
        "txz": lambda m: lzma.compress(tarred(m)),
        "tar.zst": lambda m: zstandard.compress(tarred(m)),
    }
    for ending, pack in formats.items():
        members = {name: data % ending.encode() for name, data in one.items()}
        expected = {
            f"x.{ending}/a.txt": f"member of {ending}",
            f"x.{ending}/sub/b.md": f"second of {ending}",
            f"x.{ending}/c.jsonl#1": f"record of {ending}",
        }
        yield Odd(ending, {f"x.{ending}": pack(members)}, expected)
    yield Odd("zip-by-content", {"x": zipped({"a.txt": b"no ending"})}, {"x/a.txt": "no ending"})
    yield Odd("tar-by-content", {"x": tarred({"a.txt": b"no ending, tar"})}, {"x/a.txt": "no ending, tar"})
    for name, method in (("lzma", zipfile.ZIP_LZMA), ("bzip2", zipfile.ZIP_BZIP2), ("stored", zipfile.ZIP_STORED)):
        text = f"{name}, {NOISE.hex()}"
        data = zipped({"a.txt": f"by {name}".encode(), "b.txt": text.encode()}, method)
        yield Odd(f"zip-{name}", {"x.zip": data}, {"x.zip/a.txt": f"by {name}", "x.zip/b.txt": text})
        data = zipped({"a.txt": f"beside broken {name}".encode(), "b.txt": text.encode()}, method)
        yield Odd(
            f"zip-{name}-flipped",
            {"x.zip": flipped(data, len(data) // 2)},
            {"x.zip/a.txt": f"beside broken {name}"},
            {"damaged": ["x.zip/b.txt"]},
        )
    inner = gzip.compress(tarred({"a.txt": b"three archives deep"}))
    yield Odd(
        "nested",
        {"x.zip": zipped({"y.zip": zipped({"z.tar.gz": inner})})},
        {"x.zip/y.zip/z.tar.gz/a.txt": "three archives deep"},
    )
    four = zipped({"w.zip": zipped({"x.zip": zipped({"y.zip": zipped({"z.txt": b"four deep"})})}), "a.txt": b"on top"})
    yield Odd("nested-too-deep", {"v.zip": four}, {"v.zip/a.txt": "on top"}, {"nested": ["v.zip/w.zip/x.zip/y.zip"]})
    yield Odd(
        "packed-members",
        {"x.tar": tarred({"a.txt.gz": gzip.compress(b"packed member")})},
        {"x.tar/a.txt.gz": "packed member"},
    )
    yield Odd(
        "parquet-member",
        {"x.tar.gz": gzip.compress(tarred({"p.parquet": parquet({"text": ["row in a tar"]})}))},
        {"x.tar.gz/p.parquet#1": "row in a tar"},
    )
    yield Odd(
        "zip-hidden-members",
        {"x.zip": zipped({".env": b"SECRET", "a/.git/config": b"x", "__MACOSX/._a": b"x", "a.txt": b"not hidden"})},
        {"x.zip/a.txt": "not hidden"},
        excluded=3,
    )
    yield Odd("zip-empty", {"x.zip": zipped({})})
    yield Odd(
        "zip-of-word",
        {"x.docx": zipped({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<w/>"})},
        skipped={"binary": ["x.docx"]},
        reason="Office",
    )
    yield Odd(
        "zip-of-opendocument",
        {"x.odt": zipped({"mimetype": b"x", "content.xml": b"<x/>"})},
        skipped={"binary": ["x.odt"]},
    )
    yield Odd("tar-old", {"x.tar": _old_tar()}, {"x.tar/a.txt": "before ustar"})
    yield Odd("tar-links", {"x.tar": _tar_with_links()}, {"x.tar/a.txt": "the only file"})
    yield Odd("zip-links", {"x.zip": _zip_with_link()}, {"x.zip/a.txt": "beside a link"})
    yield Odd(
        "tar-long-names",
        {"x.tar": tarred({"d/" * 80 + "a.txt": b"a long way"})},
        {"x.tar/" + "d/" * 80 + "a.txt": "a long way"},
    )
    encrypted = bytearray(zipped({"a.txt": b"a secret", "b.txt": b"no secret"}))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    yield Odd(
        "zip-encrypted", {"x.zip": bytes(encrypted)}, {"x.zip/b.txt": "no secret"}, {"encrypted": ["x.zip/a.txt"]}
    )
    strange = bytearray(zipped({"a.txt": b"packed in a strange way"}))
    strange[8] = strange[strange.index(b"PK\x01\x02") + 10] = 9
    yield Odd("zip-deflate64", {"x.zip": bytes(strange)}, skipped={"damaged": ["x.zip/a.txt"]})
    yield Odd(
        "zip-behind-a-program",
        {"x.zip": b"#!/bin/sh\nexit\n" + zipped({"a.txt": b"behind a program"})},
        {"x.zip/a.txt": "behind a program"},
    )


def _old_tar() -> bytes:
    data = bytearray(tarred({"a.txt": b"before ustar"}))
    data[257:265] = bytes(8)
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)


def _tar_with_links() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"m{int(kind)}.txt")
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("a.txt")
        info.size = 13
        archive.addfile(info, io.BytesIO(b"the only file"))
    return buffer.getvalue()


def _zip_with_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link.txt")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("a.txt", "beside a link")
    return buffer.getvalue()


def names() -> Iterator[Odd]:
    with warnings.catch_warnings(action="ignore"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number in range(3):
                archive.writestr("a.txt", f"zip namesake {number}")
    yield Odd(
        "zip-namesakes",
        {"x.zip": buffer.getvalue()},
        {"x.zip/a.txt": "zip namesake 0", "x.zip/a.txt~2": "zip namesake 1", "x.zip/a.txt~3": "zip namesake 2"},
    )
    twice = tarred({"a.jsonl": lines({"text": "tar namesake 0"})})[:1024]
    twice += tarred({"a.jsonl": lines({"text": "tar namesake 1"})})
    yield Odd(
        "tar-namesakes", {"x.tar": twice}, {"x.tar/a.jsonl#1": "tar namesake 0", "x.tar/a.jsonl~2#1": "tar namesake 1"}
    )
    yield Odd(
        "namesakes-by-separator",
        {"x.zip": zipped({"a/b.txt": b"slash", "a\\b.txt": b"backslash"})},
        {"x.zip/a/b.txt": "slash", "x.zip/a/b.txt~2": "backslash"},
    )
    yield Odd(
        "windows-names",
        {"x.zip": zipped({"C:\\docs\\a.txt": b"from a drive", "docs\\node_modules\\b.js": b"no"})},
        {"x.zip/C:/docs/a.txt": "from a drive"},
        excluded=1,
    )
    yield Odd(
        "names-that-climb",
        {"x.tar": tarred({"../../etc/a.txt": b"climbs", "/abs/b.txt": b"absolute"})},
        {"x.tar/etc/a.txt": "climbs", "x.tar/abs/b.txt": "absolute"},
    )
    yield Odd(
        "names-no-utf8-tar",
        {"x.tar": tarred({"na\udcefve.txt": b"latin name in tar"})},
        {"x.tar/na\\xefve.txt": "latin name in tar"},
    )
    flagged = zipped({"naïve-name.txt": b"flagged name", "b.txt": b"beside it"})
    yield Odd(
        "names-no-utf8-zip",
        {"x.zip": flagged.replace("ï".encode(), b"\xef\xef")},
        skipped={"damaged": ["x.zip"]},
        reason="utf-8",
    )
    unflagged = bytearray(zipped({"nXXve.txt": b"UTF-8 without the flag"}).replace(b"nXXve", "nïve".encode()))
    yield Odd("names-unflagged-zip", {"x.zip": bytes(unflagged)}, {"x.zip/nïve.txt": "UTF-8 without the flag"})
    yield Odd(
        "names-for-terminals",
        {"a\nb\x1b[31m.txt": b"a name with colours"},
        {"a\\nb\\x1b[31m.txt": "a name with colours"},
    )
    yield Odd(
        "names-like-records",
        {"x.jsonl": lines({"text": "the record"}), "x.jsonl#1": b"the file"},
        {"x.jsonl#1": "the record", "x.jsonl#1~2": "the file"},
    )
    yield Odd("names-with-spaces", {" x .txt": b"spaces around"}, {" x .txt": "spaces around"})


def records() -> Iterator[Odd]:
    for ending in ("jsonl", "ndjson", "JSONL", "jsonlines", "json"):
        data = lines({"text": f"{ending} 1"}, {"content": f"{ending} 2"}, f"{ending} 3")
        yield Odd(
            f"lines-{ending}",
            {f"x.{ending}": data},
            {f"x.{ending}#{number}": f"{ending} {number}" for number in (1, 2, 3)},
        )
    yield Odd(
        "array-of-records",
        {"x.json": json.dumps([{"text": "array 1"}, {"text": "array 2"}], indent=2).encode()},
        {"x.json#1": "array 1", "x.json#2": "array 2"},
    )
    yield Odd(
        "array-of-texts",
        {"x.json": b'["text 1 in an array", "text 2 in an array"]'},
        {"x.json#1": "text 1 in an array", "x.json#2": "text 2 in an array"},
    )
    yield Odd(
        "array-packed", {"x.json.gz": gzip.compress(b'[{"text": "a packed array"}]')}, {"x.json.gz#1": "a packed array"}
    )
    yield Odd(
        "array-called-lines", {"x.jsonl": b'[\n{"text": "array called lines"}\n]'}, {"x.jsonl#1": "array called lines"}
    )
    many = [{"text": f"long array {number} " + "x" * 1000} for number in range(300)]
    yield Odd(
        "array-long",
        {"x.json": json.dumps(many).encode()},
        {f"x.json#{number + 1}": record["text"] for number, record in enumerate(many)},
    )
    yield Odd("one-object", {"x.json": b'{\n  "id": 1,\n  "text": "one object"\n}\n'}, {"x.json#1": "one object"})
    yield Odd(
        "objects-on-end", {"x.json": b'{"text":\n"end 1"}{"text": "end 2"}'}, {"x.json#1": "end 1", "x.json#2": "end 2"}
    )
    yield Odd(
        "array-cut",
        {"x.json": b'[{"text": "before the cut"}, {"text": "cut'},
        {"x.json#1": "before the cut"},
        {"damaged": ["x.json"]},
    )
    yield Odd(
        "array-not-closed", {"x.json": b'[{"text": "not closed"}'}, {"x.json#1": "not closed"}, {"damaged": ["x.json"]}
    )
    yield Odd("array-empty", {"x.json": b"[]"}, empty=1)
    yield Odd(
        "lines-odd",
        {
            "x.jsonl": b'{"text": "good"}\n{broken\n{"text": 3}\n[]\n\n{"text": null}\n{"body": "x"}\n5\n'
            b'{"text": "\\ud800"}\n{"text": "\\u0000"}\n'
        },
        {"x.jsonl#1": "good"},
        {
            "malformed": ["x.jsonl#2", "x.jsonl#3", "x.jsonl#4", "x.jsonl#7", "x.jsonl#8"],
            "undecodable": ["x.jsonl#9"],
            "binary": ["x.jsonl#10"],
        },
        empty=1,
    )
    yield Odd(
        "lines-cut",
        {"x.jsonl": b'{"text": "whole line"}\n{"text": "half a li'},
        {"x.jsonl#1": "whole line"},
        {"malformed": ["x.jsonl#2"]},
    )
    yield Odd(
        "lines-packed-and-cut",
        {"x.jsonl.zst": _cut_lines()},
        {"x.jsonl.zst#1": "a line before " + NOISE.hex()},
        {"damaged": ["x.jsonl.zst"]},
    )
    yield Odd(
        "lines-of-old-macs",
        {"x.jsonl": b'{"text": "mac 1"}\r{"text": "mac 2"}\r'},
        {"x.jsonl#1": "mac 1", "x.jsonl#2": "mac 2"},
    )
    yield Odd(
        "lines-with-separators", {"x.jsonl": '{"text": "a\u2028b\u0085c"}\n'.encode()}, {"x.jsonl#1": "a\u2028b\u0085c"}
    )
    yield Odd(
        "lines-deep",
        {"x.jsonl": b"[" * 100_000 + b"\n" + lines({"text": "behind the deep"})},
        skipped={"damaged": ["x.jsonl"]},
    )
    yield Odd(
        "lines-huge-number",
        {"x.jsonl": b'{"n": ' + b"9" * 5000 + b', "text": "x"}\n' + lines({"text": "beside it"})},
        {"x.jsonl#2": "beside it"},
        {"malformed": ["x.jsonl#1"]},
    )
    yield Odd(
        "no-such-field",
        {"x.jsonl": lines({"body": "a", "id": 1})},
        skipped={"malformed": ["x.jsonl#1"]},
        reason="no 'text' or 'content' among its keys: body, id",
    )
    yield Odd(
        "settings-file",
        {"package.json": b'{"name": "x", "version": "1.0"}'},
        skipped={"malformed": ["package.json#1"]},
        reason="its keys: name, version",
    )
    yield Odd(
        "text-of-a-list",
        {"x.jsonl": lines({"text": ["a", "b"]})},
        skipped={"malformed": ["x.jsonl#1"]},
        reason="holds an array, not text",
    )


def _cut_lines() -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    data = packer.compress(lines({"text": "a line before " + NOISE.hex()}))
    data += packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return data + packer.compress(lines({"text": "cut " + NOISE.hex()})) + packer.flush()[:-2000]


def tables() -> Iterator[Odd]:
    yield Odd(
        "parquet",
        {"x.parquet": parquet({"text": ["row 1", None, "row 3"], "id": [1, 2, 3]})},
        {"x.parquet#1": "row 1", "x.parquet#3": "row 3"},
        empty=1,
    )
    yield Odd(
        "parquet-content",
        {"x.parquet": parquet({"content": ["by the other name"]})},
        {"x.parquet#1": "by the other name"},
    )
    yield Odd("parquet-by-content", {"x": parquet({"text": ["no ending at all"]})}, {"x#1": "no ending at all"})
    yield Odd(
        "parquet-without-column",
        {"x.parquet": parquet({"body": ["a"], "id": [1]})},
        skipped={"malformed": ["x.parquet"]},
        reason="no column 'text' or 'content'; its columns: body, id",
    )
    yield Odd(
        "parquet-of-numbers",
        {"x.parquet": parquet({"text": [1, 2]})},
        skipped={"malformed": ["x.parquet"]},
        reason="int64",
    )
    whole = parquet({"text": [NOISE.hex()] * 3})
    yield Odd("parquet-cut", {"x.parquet": whole[: len(whole) // 2]}, skipped={"damaged": ["x.parquet"]})
    yield Odd(
        "parquet-zstd", {"x.parquet": parquet({"text": ["zstd row"]}, compression="zstd")}, {"x.parquet#1": "zstd row"}
    )
    words = pa.array(["category"]).dictionary_encode()
    yield Odd("parquet-categories", {"x.parquet": parquet({"text": words})}, {"x.parquet#1": "category"})
    no_utf8 = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0\5\0\0\0"), pa.py_buffer(b"abc\x81\x8d")]
    )
    yield Odd(
        "parquet-no-utf8",
        {"x.parquet": parquet({"text": no_utf8})},
        {"x.parquet#1": "abc"},
        {"undecodable": ["x.parquet#2"]},
    )
    yield Odd("no-parquet", {"x.parquet": b"this is none"}, skipped={"damaged": ["x.parquet"]})


def markup() -> Iterator[Odd]:
    page = (
        "<!DOCTYPE html><html><head><title>t</title><style>p {}</style><script>var x = 1</script></head><body>"
        "<h1>A &amp; B</h1><p>Some <b>bo</b>ld\n  words</p><ul><li>one</li><li>two</li></ul><pre>a\n  b</pre>"
        "<table><tr><td>1</td><td>2</td></tr></table><!-- no --></body></html>"
    )
    text = "A & B\n\nSome bold words\n\none\n\ntwo\n\na\n  b\n\n1\t2"
    for ending in ("html", "HTM", "xhtml"):
        yield Odd(
            f"page-{ending}",
            {f"x.{ending}": page.replace("A &amp;", f"{ending} &amp;").encode()},
            {f"x.{ending}": text.replace("A &", f"{ending} &")},
        )
    yield Odd("page-deep", {"x.html": b"<div>" * 3000 + b"deep down" + b"</div>" * 3000}, {"x.html": "deep down"})
    yield Odd("page-without-text", {"x.html": b"<html><script>x</script></html>"}, empty=1)
    crawl = warc(
        ("warcinfo", "Content-Type: application/warc-fields\r\n", b"software: x\r\n"),
        ("request", "Content-Type: application/http\r\n", b"GET / HTTP/1.1\r\n\r\n"),
        answer(b"<p>a crawled page</p>"),
        answer(b"picture", kind="image/png"),
        answer(b"8\r\n<p>chunk\r\n3\r\ned \r\n0\r\n\r\n", headers="Transfer-Encoding: chunked\r\n"),
        answer(gzip.compress(b"packed on the way"), kind="text/plain", headers="Content-Encoding: gzip\r\n"),
        answer(b"<p>not found</p>", status="404 Not Found"),
    )
    pages = {"#3": "a crawled page", "#5": "chunked", "#6": "packed on the way"}
    yield Odd(
        "crawl",
        {"x.warc": crawl},
        {f"x.warc{number}": page for number, page in pages.items()},
        {"binary": ["x.warc#4"]},
        reason="image/png",
        empty=1,
    )
    single = [warc(answer(f"<p>member {number} of a crawl</p>".encode())) for number in (1, 2)]
    yield Odd(
        "crawl-packed",
        {"x.warc.gz": b"".join(map(gzip.compress, single))},
        {"x.warc.gz#1": "member 1 of a crawl", "x.warc.gz#2": "member 2 of a crawl"},
    )
    wet = warc(("conversion", "Content-Type: text/plain\r\n", "text of a crawl, café".encode()))
    yield Odd("crawl-as-text", {"x.warc.wet.gz": gzip.compress(wet)}, {"x.warc.wet.gz#1": "text of a crawl, café"})
    yield Odd(
        "crawl-cut",
        {"x.warc": warc(answer(b"<p>before the end</p>")) + warc(answer(b"<p>cut here</p>"))[:-12]},
        {"x.warc#1": "before the end"},
        {"damaged": ["x.warc"]},
        reason="ends inside a record",
    )
    yield Odd("no-crawl", {"x.warc.gz": gzip.compress(b"nothing of the kind")}, skipped={"damaged": ["x.warc.gz"]})
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "prose"]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "1"}]},
    ]
    yield Odd(
        "notebook", {"x.ipynb": json.dumps({"cells": cells}).encode()}, {"x.ipynb": "# A title\nprose\n\nprint(1)"}
    )
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["old = 3"]}]}]}
    yield Odd("notebook-old", {"x.ipynb": json.dumps(old).encode()}, {"x.ipynb": "old = 3"})
    yield Odd("notebook-none", {"x.ipynb": b'{"nbformat": 4}'}, skipped={"malformed": ["x.ipynb"]})
    srt = "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Good</i> evening.\r\n\r\n"
    srt += "2\r\n00:00:02,000 --> 00:00:03,000\r\n- Yes.\r\n"
    yield Odd("subtitles-srt", {"x.srt": srt.encode("utf-8-sig")}, {"x.srt": "Good evening.\n- Yes."})
    vtt = (
        "WEBVTT Kind: captions\n\nNOTE a remark\n\nSTYLE\n::cue {}\n\nintro\n"
        "00:01.000 --> 00:02.000 align:start\n<v Ann>Well,\n\n"
        "00:02.000 --> 00:03.000\nWell,\n<00:02.500><c>so &amp; so</c>\n"
    )
    yield Odd("subtitles-vtt", {"x.vtt": vtt.encode()}, {"x.vtt": "Well,\nso & so"})


def damages() -> Iterator[Odd]:
    whole = tarred({f"{number}.txt": f"{number} of a cut tar ".encode() * 200 for number in range(9)})
    first = {f"x.tar/{number}.txt": f"{number} of a cut tar " * 200 for number in range(4)}
    step = 512 + -(-len(whole_text := first["x.tar/0.txt"]) // 512) * 512
    assert len(whole_text) > 512
    yield Odd("tar-cut-inside-a-member", {"x.tar": whole[: 4 * step + 900]}, first, {"damaged": ["x.tar"]})
    named = {name.replace("x.", "y."): text.replace("cut", "bare") for name, text in first.items()}
    bare = tarred({name.partition("/")[2]: text.encode() for name, text in named.items()})
    yield Odd(
        "tar-cut-between-members",
        {"y.tar": bare[: 4 * (512 + -(-len(named["y.tar/0.txt"]) // 512) * 512)]},
        named,
        {"damaged": ["y.tar"]},
        reason="no end mark",
    )
    broken = tarred({"a.txt": b"before a broken header", "b.txt": b"behind it"})
    yield Odd(
        "tar-broken-header",
        {"x.tar": flipped(broken, 1024 + 150)},
        {"x.tar/a.txt": "before a broken header"},
        {"damaged": ["x.tar"]},
    )
    packed = gzip.compress(tarred({"a.txt": b"first in a packed tar", "b.bin": NOISE.hex().encode()}))
    yield Odd(
        "tar-gz-cut",
        {"x.tar.gz": packed[: len(packed) // 2]},
        {"x.tar.gz/a.txt": "first in a packed tar"},
        {"damaged": ["x.tar.gz"]},
    )
    summed = gzip.compress(tarred({"a.txt": b"its checksum is wrong"}))
    yield Odd(
        "tar-gz-checksum",
        {"x.tar.gz": flipped(summed, -6)},
        {"x.tar.gz/a.txt": "its checksum is wrong"},
        {"damaged": ["x.tar.gz"]},
    )
    archive = zipped({"a.txt": b"in a cut zip", "b.txt": b"too"})
    yield Odd("zip-cut", {"x.zip": archive[: len(archive) // 2]}, skipped={"damaged": ["x.zip"]})
    yield Odd(
        "zip-checksum",
        {"x.zip": flipped(zipped({"a.txt": b"stored", "b.txt": b"zip beside"}, zipfile.ZIP_STORED), 36)},
        {"x.zip/b.txt": "zip beside"},
        {"damaged": ["x.zip/a.txt"]},
        reason="CRC",
    )
    yield Odd(
        "zip-inside-damaged",
        {"x.zip": zipped({"y.zip": archive[:40], "z.txt": b"beside a damaged zip"})},
        {"x.zip/z.txt": "beside a damaged zip"},
        {"damaged": ["x.zip/y.zip"]},
    )
    yield Odd("empty-crawl", {"x.warc": b""}, empty=1)
    for name in ("zip", "tar", "parquet"):
        yield Odd(f"empty-{name}", {f"x.{name}": b""}, skipped={"damaged": [f"x.{name}"]})


def bombs() -> Iterator[Odd]:
    boom = bytes(4 << 20).replace(b"\0", b"b")
    for ending, pack in (
        ("gz", gzip.compress),
        ("zst", zstandard.compress),
        ("xz", lzma.compress),
        ("bz2", bz2.compress),
    ):
        yield Odd(f"bomb-{ending}", {f"x.txt.{ending}": pack(boom)}, skipped={"expanding": [f"x.txt.{ending}"]})
    yield Odd(
        "bomb-zip",
        {"x.zip": zipped({"a.txt": b"before the bomb", "b.txt": boom})},
        {"x.zip/a.txt": "before the bomb"},
        {"expanding": ["x.zip"]},
    )
    yield Odd("bomb-nested", {"x.zip": zipped({"y.zip": zipped({"z.txt": boom})})}, skipped={"expanding": ["x.zip"]})
    yield Odd(
        "bomb-in-tar",
        {"x.tar.gz": gzip.compress(tarred({"y.gz": gzip.compress(boom)}))},
        skipped={"expanding": ["x.tar.gz"]},
    )
    rows = {"text": pa.array(["b" * 700_000] * 20)}
    yield Odd(
        "bomb-parquet",
        {"x.parquet": parquet(rows, compression="zstd", use_dictionary=False)},
        skipped={"expanding": ["x.parquet"]},
    )
    yield Odd(
        "bomb-parquet-dictionary",
        {"x.parquet": parquet(rows)},
        {"x.parquet#1": "b" * 700_000},
        {"expanding": ["x.parquet"]},
    )


def layouts_by_content() -> Iterator[Odd]:
    yield Odd(
        "code",
        {"x.py": b"def f():\n    return 1\n", "Makefile": b"all:\n\ttrue\n", "x.t": b"ok 1 - perl\n"},
        {"x.py": "def f():\n    return 1\n", "Makefile": "all:\n\ttrue\n", "x.t": "ok 1 - perl\n"},
    )
    yield Odd("text-called-zip", {"x.zip": b"<html>sign in first</html>"}, skipped={"damaged": ["x.zip"]})
    yield Odd("text-called-tar", {"x.tar": b"<html>sign in</html>" * 40}, skipped={"damaged": ["x.tar"]})
    yield Odd("tables-as-text", {"x.csv": b"a,b\n1,2\n"}, {"x.csv": "a,b\n1,2\n"})
    text = "".join(f"line {number} of a long text\n" for number in range(700_000))
    long = text.encode()[: 17 << 20]
    yield Odd("long-text-packed-and-cut", {"x.txt.gz": gzip.compress(long, 1)[:-9]}, skipped={"damaged": ["x.txt.gz"]})


def places() -> Iterator[Odd]:
    def links(folder: Path) -> None:
        (folder / "gone").symlink_to(folder / "nowhere")
        (folder / "self").symlink_to(folder / "self")
        (folder / "up").symlink_to(folder)

    def devices(folder: Path) -> None:
        os.mkfifo(folder / "pipe.txt")
        (folder / "zero.txt").symlink_to("/dev/zero")

    def no_utf8(folder: Path) -> None:
        Path(os.fsdecode(os.fsencode(folder) + b"/na\xefve.txt")).write_text("latin name on the disk")

    yield Odd(
        "links", {"a.txt": b"beside links"}, {"a.txt": "beside links"}, {"unreadable": ["gone", "self"]}, make=links
    )
    yield Odd("devices", skipped={"unreadable": ["pipe.txt", "zero.txt"]}, reason="no plain file", make=devices)
    yield Odd("names-no-utf8", texts={"na\\xefve.txt": "latin name on the disk"}, make=no_utf8)
    yield Odd(
        "never-text",
        {
            ".env": b"SECRET=1",
            ".git/config": b"x",
            "runs/a/x.txt": b"x",
            "node_modules/x.js": b"x",
            "own-venv/pyvenv.cfg": b"x",
            "own-venv/lib/x.py": b"x",
            "a.txt": b"the only text",
        },
        {"a.txt": "the only text"},
        excluded=5,
    )
