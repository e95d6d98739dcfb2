"""The data stage: sources in; documents without duplicates out, split into train and held out.

Two passes, both over several processes. The first reads every source into temporary document files, and remembers 29
bytes a document; from those the parent decides which documents are kept and where (`split.route`); the second writes
the kept ones. The result does not depend on the number of processes: work is cut by size, and comes back in order.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inhouse.common.files import write_json
from inhouse.common.progress import Progress
from inhouse.data.documents import SPLITS, DocumentWriter, ZstdFile, read_lines
from inhouse.data.findings import Findings, terminal_line
from inhouse.data.process_pool import map_ordered
from inhouse.data.readers.reader import Reader
from inhouse.data.settings import DataSettings, Source
from inhouse.data.sources import InputFile, input_files, locate
from inhouse.data.split import HELDOUT, TRAIN, DocumentTable, route

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


class _Part(NamedTuple):
    """A temporary document file, its number among all, and where each of its documents goes."""

    file: Path
    number: int
    routes: np.ndarray


def prepare_data(settings: DataSettings, output: Path) -> None:
    """Write `documents/{train,heldout}-NNNNN.jsonl.zst` and `counts.json` into `output`.

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
    routes = route(rows)
    parts = list(_parts(collected, routes))
    with Progress("data: write", len(parts), "files") as progress:
        for _ in map_ordered(partial(_distribute, folder=documents), parts, settings.processes):
            progress.update()
    shutil.rmtree(parts_folder)
    owner = np.repeat([result.source for result in collected], [len(result.rows) for result in collected])
    described = [
        _describe(found, rows["size"][owner == number], routes[owner == number])
        for number, found in enumerate(findings)
    ]
    write_json(output / "counts.json", {"sources": described, "total": _count(rows["size"], routes)})


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
    table = DocumentTable(settings.holdout_one_in)
    for file in task.files:
        for document in reader.read(file):
            writer.add(document)
            table.add(document)
    writer.close()
    return _Collected(task.source, writer.files, table.rows(), reader.findings)


def _check_all_have_text(sources: tuple[Source, ...], findings: list[Findings], collected: list[_Collected]) -> None:
    have_text = {result.source for result in collected if len(result.rows)}
    for index, (source, found) in enumerate(zip(sources, findings, strict=True)):
        if index not in have_text:
            remedy = "correct `text_field`" if "malformed" in found.skipped else "put text files there"
            raise ValueError(f"source {source.name}: {source.path} holds no text ({found.summary()}); {remedy}")


def _parts(collected: list[_Collected], routes: np.ndarray) -> Iterator[_Part]:
    start = number = 0
    for result in collected:
        for file, num_documents in result.files:
            yield _Part(file, number, routes[start : start + num_documents])
            start, number = start + num_documents, number + 1
    assert start == len(routes)


def _distribute(part: _Part, folder: Path) -> None:
    train, heldout = (ZstdFile(folder / f"{split}-{part.number:05d}.jsonl.zst") for split in SPLITS)
    for line, where in zip(read_lines(part.file), part.routes, strict=True):
        if where == TRAIN:
            train.write(line)
        elif where == HELDOUT:
            heldout.write(line)
    train.close()
    heldout.close()
    part.file.unlink()


def _count(sizes: np.ndarray, routes: np.ndarray) -> dict[str, int]:
    """Documents and bytes of text by where they went."""
    counts = {"documents": int((routes > 0).sum()), "duplicates": int((routes == 0).sum())}
    for split, where in zip(SPLITS, (TRAIN, HELDOUT), strict=True):
        counts[f"{split}_documents"] = int((routes == where).sum())
        counts[f"{split}_bytes"] = int(sizes[routes == where].sum(dtype=np.int64))
    return counts


def _describe(found: Findings, sizes: np.ndarray, routes: np.ndarray) -> dict[str, Any]:
    counts = asdict(found)
    skipped = {kind: counts["skipped"][kind] for kind in sorted(found.skipped)}
    plain = {key: counts[key] for key in ("files", "bytes", "empty", "excluded", "encodings")}
    return plain | _count(sizes, routes) | {"skipped": skipped}
