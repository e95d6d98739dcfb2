"""Odd files of many texts: JSON, parquet, the web; and what stands in markup."""

import gzip
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet
import zstandard
from tests.data.odd.making import NOISE, Odd, answer, lines, parquet, warc


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
