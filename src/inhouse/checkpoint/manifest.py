"""The manifest of a folder: what it holds, and size and digest of every file in it, its own content's included.

torch.distributed.checkpoint, torch.load and safetensors each load a flipped byte silently, and shards of one step
under the index of another (measured); only a digest of every byte tells.
"""

from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import digest, read_json, write_json
from inhouse.common.lineage import digest_of

MANIFEST = "manifest.json"


class FileFacts(NamedTuple):
    """What the manifest knows of one file."""

    size: int  # bytes
    digest: str

    @classmethod
    def of(cls, path: Path) -> "FileFacts":
        return cls(path.stat().st_size, digest(path))


def write_manifest(folder: Path, content: dict[str, Any], files: dict[str, FileFacts]) -> None:
    """Write it, whole or not at all; to be called last, because a folder with a manifest counts as complete."""
    listed = {name: facts._asdict() for name, facts in sorted(files.items())}
    body = {**content, "files": listed}
    write_json(folder / MANIFEST, {"digest": digest_of(body), "content": body})


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content that `write_manifest` was given, and `files`.

    Raises `ValueError` with a sentence where the manifest is missing, or not as it was written.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    is_whole = isinstance(manifest, dict) and manifest.keys() == {"digest", "content"}
    if not is_whole or digest_of(manifest["content"]) != manifest["digest"]:
        raise ValueError(f"{path} is damaged (its digest differs)")
    content: dict[str, Any] = manifest["content"]
    return content


def find_damage(folder: Path, part: int = 0, parts: int = 1) -> str | None:
    """What is wrong with a folder, as a clause that names the file; None where nothing is.

    Reading takes long, so `parts` processes may share it: each looks at every `parts`-th file, the first at the list.
    """
    try:
        files = {name: FileFacts(**facts) for name, facts in read_manifest(folder)["files"].items()}
        if part == 0:
            extra = sorted(path.name for path in folder.iterdir() if path.name not in {*files, MANIFEST})
            if extra:
                return f"{folder / extra[0]} does not belong there (the manifest does not list it)"
        for name in sorted(files)[part::parts]:
            if wrong := _wrong(folder / name, files[name]):
                return f"{folder / name} {wrong}"
    except ValueError as error:
        return str(error)
    return None


def _wrong(path: Path, expected: FileFacts) -> str | None:
    try:
        found = FileFacts.of(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if found.size != expected.size:
        return f"is damaged (it has {found.size:,} bytes, its manifest says {expected.size:,})"
    return None if found.digest == expected.digest else "is damaged (its digest differs from its manifest's)"
