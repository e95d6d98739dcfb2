"""What identifies a stage: its settings, and the digests of the stages and files that it reads.

A stage folder whose record has the identity that is wanted is the result that would be made anew.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import digest
from inhouse.common.lineage import Record, read_record, result_digest
from inhouse.common.model_paths import model_files
from inhouse.common.progress import Progress
from inhouse.common.settings import Settings
from inhouse.data.findings import Findings
from inhouse.data.settings import Source
from inhouse.data.sources import content_digest, input_files, locate
from inhouse.pipeline.stages import Stage


class Identity(NamedTuple):
    """What a stage's result depends on, as its record holds it; `listings` only say whether files must be read anew."""

    settings: dict[str, Any]
    inputs: dict[str, Any]
    listings: dict[str, list[str]]


def identify(stage: Stage, run: Path, known: Record) -> Identity:
    """The identity of `stage` as its inputs lie in `run` and outside of it now.

    `known` is the record of its last result, where there is one. Raises `ValueError` where a file is not there.
    """
    inputs: dict[str, Any] = {"stages": {}}
    for name in stage.reads:
        record = read_record(run / name)
        inputs["stages"][name] = None if record is None else result_digest(record)
    listings = {}
    digests = {
        "sources": [_source_digest(source, known, i) for i, source in enumerate(stage.sources)],
        "conversations": [_path_digest(path, known, "conversations", i) for i, path in enumerate(stage.conversations)],
        "base": [_path_digest(path, known, "base", i, model_files) for i, path in enumerate(stage.base)],
    }
    for group, found in digests.items():
        if found:
            listings[group], inputs[group] = [list(each) for each in zip(*found, strict=True)]
    return Identity(result_settings(stage.settings), inputs, listings)


def result_settings(value: Any) -> Any:
    """The settings that a result depends on, ready for JSON: all but those that their types call beside it."""
    if isinstance(value, Settings):
        kept = [name for name in type(value).model_fields if name not in value.beside_the_result]
        return {name: result_settings(getattr(value, name)) for name in kept}
    if isinstance(value, tuple | list):
        return [result_settings(each) for each in value]
    if isinstance(value, dict):
        return {key: result_settings(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def _source_digest(source: Source, known: Record, index: int) -> tuple[str, str]:
    """The digests of a source's listing (names, sizes, times) and of its content."""
    located = locate(source)

    def files() -> Iterator[Any]:
        return input_files(located, Findings())

    listing = _digest_lines(f"{file.name} {file.size} {file.version.changed}" for file in files())
    if (content := _known(known, "sources", index, listing)) is None:
        content = _digest_content(source.name, ((file.name, content_digest(file)) for file in files()))
    return listing, content


def _all_files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def _path_digest(
    path: Path, known: Record, group: str, index: int, files_in: Callable[[Path], list[Path]] = _all_files
) -> tuple[str, str]:
    """The same of a folder, or of one file, whose own name does not count."""

    def files() -> Iterator[tuple[str, Path]]:
        if path.is_dir():
            yield from ((file.relative_to(path).as_posix(), file) for file in files_in(path))
        else:
            yield "", path

    status = ((name, file.stat()) for name, file in files())
    listing = _digest_lines(f"{name} {each.st_size} {each.st_mtime_ns}" for name, each in status)
    if (content := _known(known, group, index, listing)) is None:
        content = _digest_content(path.name, ((name, digest(file)) for name, file in files()))
    return listing, content


def _known(known: Record, group: str, index: int, listing: str) -> str | None:
    """The content's digest in the record, where the listing is still the one that stands there."""
    listings, contents = known.get("listings", {}).get(group, ()), known.get("inputs", {}).get(group, ())
    is_known = index < min(len(listings), len(contents)) and listings[index] == listing
    return str(contents[index]) if is_known else None


def _digest_content(name: str, files: Iterable[tuple[str, str]]) -> str:
    with Progress(f"digest of {name}", None, "files") as progress:

        def line(file: tuple[str, str]) -> str:
            progress.update()
            return " ".join(file)

        return _digest_lines(map(line, files))


def _digest_lines(lines: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for line in lines:
        sha.update(f"{line}\n".encode())
    return f"sha256:{sha.hexdigest()}"
