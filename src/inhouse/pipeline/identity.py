"""What identifies a stage: its settings, and the digests of the stages and sources that it reads.

A stage folder whose record has the identity that is wanted is the result that would be made anew.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from inhouse.common.lineage import Record, digest_of, read_record
from inhouse.common.progress import Progress
from inhouse.data.findings import Findings
from inhouse.data.settings import Source
from inhouse.data.sources import InputFile, content_digest, input_files, locate
from inhouse.pipeline.stages import Stage


def identify(stage: Stage, run: Path, known: Record) -> tuple[Record, dict[str, str]]:
    """The identity of `stage` as its inputs lie in `run` and at its sources now, and the listings of the sources.

    `known` is the record of its last result, where there is one.
    """
    listings, inputs = source_digests(stage.sources, known)
    for name in stage.reads:
        record = read_record(run / name)
        assert record is not None, f"{name} runs before {stage.name}"
        inputs[name] = digest_of(record["outputs"])
    return {"settings": stage.settings, "inputs": inputs}, listings


def has_identity(record: Record, identity: Record) -> bool:
    return all(record.get(key) == value for key, value in identity.items())


def source_digests(sources: Sequence[Source], known: Record) -> tuple[dict[str, str], dict[str, str]]:
    """Of each source, by name: the digest of its listing (names, sizes, times) and the digest of its content.

    Where the listing is still the one in the record `known`, the content is not read again.
    """
    listings, contents = {}, {}
    for source in sources:
        listing = _digest_lines(f"{file.name} {file.size} {file.version.changed}" for file in _files(source))
        listings[source.name] = listing
        if known.get("listings", {}).get(source.name) == listing:
            contents[source.name] = known["inputs"][source.name]
        else:
            contents[source.name] = _digest_content(source)
    return listings, contents


def _files(source: Source) -> Iterator[InputFile]:
    return input_files(locate(source), Findings())


def _digest_content(source: Source) -> str:
    with Progress(f"digest of {source.name}", None, "files") as progress:

        def line(file: InputFile) -> str:
            progress.update()
            return f"{file.name} {content_digest(file)}"

        return _digest_lines(map(line, _files(source)))


def _digest_lines(lines: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for line in lines:
        sha.update(f"{line}\n".encode())
    return f"sha256:{sha.hexdigest()}"
