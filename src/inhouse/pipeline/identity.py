"""What identifies a stage: its settings, and the digests of the stages and files that it reads.

A stage folder whose record has the identity that is wanted is the result that would be made anew.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from inhouse.common.files import digest
from inhouse.common.lineage import Record, read_record, result_digest
from inhouse.common.model_paths import model_files
from inhouse.common.progress import Progress
from inhouse.common.settings import Settings
from inhouse.data.findings import Findings
from inhouse.data.settings import Source
from inhouse.data.sources import InputFile, content_digest, input_files, locate, version_of
from inhouse.pipeline.stages import Stage
from inhouse.posttrain.conversation_files import conversation_files


class Identity(NamedTuple):
    """What a stage's result depends on, as its record holds it; `listings` only say whether files must be read anew."""

    settings: dict[str, Any]
    inputs: dict[str, Any]
    listings: dict[str, list[str]]


def identify(stage: Stage, run: Path, known: Record, results: Mapping[str, str] = MappingProxyType({})) -> Identity:
    """The identity of `stage` as its inputs lie in `run` and outside of it now.

    `known` is the record of its last result, where there is one; `results` are digests of stages that will be others
    than those in `run`. Raises `ValueError` where a file is not there.
    """
    inputs: dict[str, Any] = {"stages": {}}
    for name in stage.reads:
        record = read_record(run / name)
        inputs["stages"][name] = results.get(name) or (None if record is None else result_digest(record))
    listings = listings_of(stage)
    for group, ours in listings.items():
        inputs[group] = [
            _known(known, group, number, listing) or _content(stage, group, number)
            for number, listing in enumerate(ours)
        ]
    return Identity(result_settings(stage.settings), inputs, listings)


def listings_of(stage: Stage) -> dict[str, list[str]]:
    """By group, of everything from outside the run that `stage` reads: a digest of names, inodes, sizes and times.

    Not of names, sizes and times alone: what git or an archive unpacks may have one time for all files.
    """
    groups = {
        "sources": [_digest_lines(f"{f.name} {f.version}" for f in _files(s)) for s in stage.sources],
        "conversations": [_listing(path, conversation_files) for path in stage.conversations],
        "environments": [_listing(path, _installed) for path in stage.environments],
        "base": [_listing(path, model_files) for path in stage.base],
    }
    return {group: listings for group, listings in groups.items() if listings}


def _content(stage: Stage, group: str, number: int) -> str:
    """The digest of what is in the files of one source, one set of conversations, one environment, or of the base."""
    if group == "sources":
        source = stage.sources[number]
        return _digest_content(source.name, ((file.name, content_digest(file)) for file in _files(source)))
    files_in = {"base": model_files, "conversations": conversation_files, "environments": _installed}[group]
    path: Path = getattr(stage, group)[number]
    return _digest_content(path.name, ((name, digest(file)) for name, file in _named(path, files_in)))


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


def _files(source: Source) -> Iterator[InputFile]:
    return input_files(locate(source), Findings())


def _installed(folder: Path) -> list[Path]:
    """Of a virtual environment that an environment is served from: what is installed in it, by their lists of files."""
    return sorted(folder.glob("lib/python*/site-packages/*.dist-info/RECORD"))


def _listing(path: Path, files_in: Callable[[Path], list[Path]]) -> str:
    status = ((name, file.stat()) for name, file in _named(path, files_in))
    return _digest_lines(f"{name} {version_of(each)}" for name, each in status)


def _named(path: Path, files_in: Callable[[Path], list[Path]]) -> Iterator[tuple[str, Path]]:
    """The files of a folder with their names in it, or one file, whose own name does not count."""
    if path.is_dir():
        yield from ((file.relative_to(path).as_posix(), file) for file in files_in(path))
    else:
        yield "", path


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
        sha.update(f"{line}\n".encode("utf-8", "backslashreplace"))
    return f"sha256:{sha.hexdigest()}"
