"""Archives, member by member and never unpacked to the disk: zip and tar."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO, NamedTuple, Self, cast

from inhouse.data.findings import BadInput
from inhouse.data.readers.streams import Allowance, UntilDamage, damage, guarded, guarded_items
from inhouse.data.sources import printable

_ENCRYPTED, _NAME_IS_UTF8 = 0x1, 0x800  # flags of a zip member
# what a zip that is no archive of texts has in it: Office, OpenDocument and EPUB, Java
_PROGRAM_FILES = {"[Content_Types].xml": "an Office document", "META-INF/MANIFEST.MF": "a Java program"}


class Member(NamedTuple):
    """A file in an archive; `open` raises `BadInput` where it cannot be read."""

    name: str
    size: int
    open: Callable[[str], io.BufferedReader]  # given what errors are to call it


def zip_members(file: IO[bytes], name: str, allowance: Allowance) -> Iterator[Member]:
    """The files of a zip archive; links are none."""
    try:
        archive = zipfile.ZipFile(file)
    except BadInput:
        raise
    except Exception as error:
        raise damage(error, name) from None
    _refuse_documents(archive)
    for info in archive.infolist():
        if not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16):
            yield Member(member_name(_zip_name(info)), info.file_size, _zip_opener(archive, info, allowance))


def _refuse_documents(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if names[:1] == ["mimetype"]:
        raise BadInput("binary", "an OpenDocument or EPUB file")
    for known, what in _PROGRAM_FILES.items():
        if known in names:
            raise BadInput("binary", what)


def _zip_opener(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, allowance: Allowance
) -> Callable[[str], io.BufferedReader]:
    def open_member(where: str) -> io.BufferedReader:
        if info.flag_bits & _ENCRYPTED:
            raise BadInput("encrypted", "it is encrypted")
        try:
            return guarded(archive.open(info), where, allowance)
        except BadInput:
            raise
        except Exception as error:
            raise damage(error, where) from None

    return open_member


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Names without the flag are cp437 by the standard and UTF-8 in many archives."""
    if not info.flag_bits & _NAME_IS_UTF8:
        try:
            return info.orig_filename.encode("cp437").decode()
        except ValueError:
            pass
    return info.orig_filename


class _StrictHeader(tarfile.TarInfo):
    """A header that is missing or damaged is an error; tarfile takes it for the end where another stands before it."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end mark
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"no end mark ({error})") from None


def tar_members(stream: io.BufferedReader, name: str, allowance: Allowance) -> Iterator[Member]:
    """The files of a tar archive, in order, as they pass by; links, which lead to other members, are none.

    Reads to the very end, so that the checksum of a compressed archive is looked at too.
    """
    try:
        archive = tarfile.open(fileobj=cast(IO[bytes], UntilDamage(stream)), mode="r|", tarinfo=_StrictHeader)  # noqa: SIM115  (the stream is not its own)
    except BadInput:
        raise
    except Exception as error:
        raise damage(error, name) from None
    for info in guarded_items(iter(archive), name):
        if info.isreg():
            yield Member(member_name(info.name), info.size, _tar_opener(archive, info, name, allowance))
        archive.members = []  # type: ignore[attr-defined]  # or every header that was read is kept
    while stream.read(1 << 16):
        pass


def _tar_opener(
    archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, allowance: Allowance
) -> Callable[[str], io.BufferedReader]:
    def open_member(where: str) -> io.BufferedReader:
        stream = archive.extractfile(info)
        assert stream is not None
        return guarded(stream, name, allowance if info.issparse() else None)  # damage is the whole archive's

    return open_member


def member_name(name: str) -> str:
    """A path within the archive, whatever its maker wrote: separators of Windows, drives, absolute paths, `..`."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return printable("/".join(part for part in parts if part.strip("/") not in ("", ".", ".."))) or "_"
