"""The data stage: sources in; documents without duplicates out, split into train and held out.

Two passes, both over several processes. The first reads every source into temporary document files, and remembers 38
bytes a document; from those the parent decides which documents are kept and where (`split.route`); the second writes
the kept ones (`distribute`). The result does not depend on the number of processes: work is cut by size, and comes back
in order.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inhouse.common.files import write_json
from inhouse.common.progress import Progress
from inhouse.data.distribute import Part, distribute
from inhouse.data.documents import INDEX, DocumentWriter, Split, Written
from inhouse.data.findings import Findings, terminal_line
from inhouse.data.process_pool import map_ordered
from inhouse.data.readers.reader import Reader
from inhouse.data.separators import separators_in, split_texts
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import InputFile, input_files, locate
from inhouse.data.split import BLOCKS, DROP, FEW_TEXTS, DocumentTable, near_copies, route

BYTES_PER_FILE = 1 << 26  # of text: what one process reads, and one document file holds
FILES_PER_TASK = 4096


class _Task(NamedTuple):
    """Some files of one source, for one process; `source` is its place among the sources."""

    number: int
    source: int
    files: list[InputFile]


class _Collected(NamedTuple):
    """What a task found: document files with their counts, a row a document, and the rest."""

    source: int
    files: list[tuple[Path, int]]
    rows: np.ndarray
    findings: Findings
    separators: Counter[str]


def prepare_data(settings: DataSettings, output: Path) -> None:
    """Write `documents/{train,heldout}-NNNNN.jsonl.zst`, their index and `counts.json` into `output`.

    Raises `ValueError` naming the source where one is missing or holds no text.
    """
    sources = [locate(source) for source in settings.sources]
    parts_folder, documents = output / "parts", output / "documents"
    for folder in (parts_folder, documents):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    findings = [Findings(place=source.path, stops=settings.on_bad_input == "stop") for source in sources]
    collected = []
    collect = partial(_collect, settings=settings, sources=sources, folder=parts_folder)
    with Progress("data: read", None, "documents") as progress:
        for result in map_ordered(collect, _tasks(sources, findings), settings.processes):
            findings[result.source].add(result.findings)
            collected.append(result)
            progress.update(len(result.rows))
    if line := terminal_line(findings):
        print(line, file=sys.stderr, flush=True)
    _check_all_have_text(settings.sources, findings, collected)
    rows = np.concatenate([result.rows for result in collected])
    routes = route(rows, settings)
    written = distribute(list(_parts(collected, rows, routes)), settings, documents)
    shutil.rmtree(parts_folder)
    write_json(documents / INDEX, {split: [file._asdict() for file in files] for split, files in written.items()})
    counts = _counts(collected, findings, rows, routes, written)
    write_json(output / "counts.json", counts)
    for line in _lines(settings, counts):
        print(f"data: {line}", file=sys.stderr, flush=True)


def _tasks(sources: list[Source], findings: list[Findings]) -> Iterator[_Task]:
    """The files of all sources in tasks of bounded size; a larger file is a task of its own."""
    number = 0
    for index, source in enumerate(sources):
        files: list[InputFile] = []
        size = 0
        for file in input_files(source, findings[index]):
            if files and (size + file.size > BYTES_PER_FILE or len(files) == FILES_PER_TASK):
                yield _Task(number, index, files)
                number, files, size = number + 1, [], 0
            files.append(file)
            size += file.size
        if files:
            yield _Task(number, index, files)
            number += 1


def _collect(task: _Task, settings: DataSettings, sources: list[Source], folder: Path) -> _Collected:
    reader = Reader(sources[task.source], task.source, settings, folder)
    writer = DocumentWriter(folder, f"{task.number:07d}", BYTES_PER_FILE)
    table, separators = DocumentTable(settings), Counter[str]()
    for file in task.files:
        for document in split_texts(reader.read(file), settings.split_at, settings.max_document_bytes):
            writer.add(document)
            table.add(document)
            separators.update(separators_in(document.text))
    writer.close()
    return _Collected(task.source, writer.files, table.rows(), reader.findings, separators)


def _check_all_have_text(sources: tuple[Source, ...], findings: list[Findings], collected: list[_Collected]) -> None:
    have_text = {result.source for result in collected if len(result.rows)}
    for index, (source, found) in enumerate(zip(sources, findings, strict=True)):
        if index not in have_text:
            remedy = "correct `text_field`" if "malformed" in found.skipped else "put text files there"
            raise ValueError(f"source {source.name}: {source.path} holds no text ({found.summary()}); {remedy}")


def _parts(collected: list[_Collected], rows: np.ndarray, routes: np.ndarray) -> Iterator[Part]:
    start = number = 0
    for result in collected:
        for file, num_documents in result.files:
            here = slice(start, start + num_documents)
            yield Part(file, number, result.source, rows[here], routes[here])
            start, number = start + num_documents, number + 1
    assert start == len(routes)


def _counts(
    collected: list[_Collected],
    findings: list[Findings],
    rows: np.ndarray,
    routes: np.ndarray,
    written: dict[Split, list[Written]],
) -> dict[str, Any]:
    """Of each source by its number, and of all: what was read, and where it went. Bytes are those of texts."""
    owner = np.repeat([result.source for result in collected], [len(result.rows) for result in collected])
    is_near = near_copies(rows, routes)
    described = []
    for number, found in enumerate(findings):
        mine, separators = owner == number, Counter[str]()
        for result in collected:
            separators.update(result.separators if result.source == number else ())
        files = {split: [file for file in files if file.source == number] for split, files in written.items()}
        went = _count(rows["size"][mine], routes[mine], is_near[mine], files)
        described.append(_describe(found) | {"separators": dict(separators)} | went | _skipped(found))
    return {"sources": described, "total": _count(rows["size"], routes, is_near, written)}


def _count(
    sizes: np.ndarray, routes: np.ndarray, is_near: np.ndarray, written: dict[Split, list[Written]]
) -> dict[str, int]:
    """Documents and bytes of text by where they went; `by_blocks` are the documents that may have two sides."""
    counts = {
        "documents": int((routes != DROP).sum()),
        "by_blocks": int((routes == BLOCKS).sum()),
        "duplicates": int((routes == DROP).sum()),
        "near_duplicates": int(is_near.sum()),
    }
    for split, files in written.items():
        counts[f"{split}_documents"] = sum(file.documents for file in files)
        counts[f"{split}_bytes"] = sum(file.bytes for file in files)
    kept = counts["train_bytes"] + counts["heldout_bytes"]
    return counts | {"duplicate_bytes": int(sizes.sum(dtype=np.int64)) - kept}


def _describe(found: Findings) -> dict[str, Any]:
    return {key: getattr(found, key) for key in ("files", "bytes", "empty", "excluded", "encodings")}


def _skipped(found: Findings) -> dict[str, Any]:
    return {"skipped": {kind: asdict(found.skipped[kind]) for kind in sorted(found.skipped)}}


def _lines(settings: DataSettings, counts: dict[str, Any]) -> Iterator[str]:
    """What of the outcome the user should know at once."""
    total = counts["total"]
    kept = total["train_bytes"] + total["heldout_bytes"]
    near = f" ({total['near_duplicates']:,} of them but for spacing or Unicode form)" * (total["near_duplicates"] > 0)
    how = ""
    if 0 < total["documents"] == total["by_blocks"]:
        how = f", by paragraphs, because fewer than {FEW_TEXTS} texts are too few to hold out whole ones"
    yield (
        f"{total['documents']:,} documents, {total['duplicates']:,} duplicates left out{near}; "
        f"{100 * total['heldout_bytes'] / kept:.2g} % of the bytes held out{how}"
    )
    for source, row in zip(settings.sources, counts["sources"], strict=True):
        for separator, count in row["separators"].items():
            yield (
                f"source {source.name} has {count:,} times {separator} in its texts, read as plain text; where it "
                f"divides documents, split there: --set data.split_at='{separator}'"
            )
