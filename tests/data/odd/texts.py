"""Odd texts: encodings, compressions, names that promise something else, places on the disk."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard
from tests.data.odd.making import NOISE, Odd, flipped, lines

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
