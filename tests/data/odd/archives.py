"""Odd archives: formats, members, names, damage, bombs."""

import bz2
import gzip
import io
import lzma
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.parquet
import zstandard
from tests.data.odd.making import NOISE, Odd, flipped, lines, parquet, tarred, zipped


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
