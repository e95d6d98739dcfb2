"""How a log of votes is written: entries that are signed and chained, and a signed head that says where they end.

A line is `{"number", "previous", "kind", "body", "mac"}` in canonical JSON; `mac` is HMAC-SHA256 over the line without
it, `previous` the mac of the line before. Whoever has no key can neither make a line nor change one. (Schneier and
Kelsey, "Secure audit logs", 1999.)
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any, NamedTuple

from inhouse.common.files import read_json, write_atomic

Body = dict[str, Any]
KEY_BYTES = 32
FIRST = ""  # what the first entry has as `previous`


class Entry(NamedTuple):
    """A genuine line."""

    number: int
    previous: str
    kind: str  # model | vote, of the board; act, of the gateway's audit log
    body: Body
    mac: str


class Head(NamedTuple):
    """Where a log ends."""

    count: int  # type: ignore[assignment]  # the word for it; nobody counts in this tuple
    bytes: int
    mac: str


def read_key(path: Path) -> bytes:
    """The signing key. Raises `ValueError` where it is too short to be one."""
    key = path.read_bytes().strip(b"\r\n")
    if len(key) < KEY_BYTES:
        raise ValueError(f"{path}: a key of {len(key)} bytes; {KEY_BYTES} at least "
                         f"(head -c {KEY_BYTES} /dev/urandom | base64 > {path.name})")  # fmt: skip
    return key


def is_log(path: Path) -> bool:
    """Whether a file's first line looks like an entry, whoever made it."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and {"number", "previous", "mac"} <= found.keys()


def entry_of(line: bytes, key: bytes | None) -> Entry | None:
    """The entry of a line; None where it is not signed with the key (where there is none, not of an entry's form)."""
    try:
        found = json.loads(line)
        entry = Entry(**found)
        is_whole = canonical(found) == line and _is_formed(entry)
    except (ValueError, TypeError, RecursionError):
        return None
    is_signed = key is None or hmac.compare_digest(_bytes(entry.mac), _bytes(mac(key, found)))
    return entry if is_whole and is_signed else None


def _is_formed(entry: Entry) -> bool:
    is_model = entry.kind == "model" and isinstance(entry.body, dict) and isinstance(entry.body.get("model"), str)
    is_other = entry.kind in ("vote", "act") and isinstance(entry.body, dict)
    return type(entry.number) is int and (is_model or is_other)


def canonical(value: Body) -> bytes:
    """The one way to write it: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def mac(key: bytes, entry: Body) -> str:
    """The signature of an entry, over all of it but the signature."""
    return hmac.new(key, canonical({k: v for k, v in entry.items() if k != "mac"}), hashlib.sha256).hexdigest()


def read_head(path: Path, key: bytes) -> Head | None:
    """What the head says; None where there is no such file. Raises `ValueError` where it is not signed with the key."""
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or not hmac.compare_digest(_bytes(found.get("seal")), _bytes(_seal(key, found))):
        raise ValueError(f"{path}: the head is not signed with this key: it was changed, or the key is another one")
    return Head(found["count"], found["bytes"], found["mac"])


def write_head(path: Path, key: bytes, head: Head) -> None:
    """Say where the log ends, signed; the old head or the new one is there, whatever happens."""
    found = head._asdict()
    write_atomic(path, canonical(found | {"seal": _seal(key, found)}) + b"\n")


def _seal(key: bytes, head: Body) -> str:
    named = canonical({"head of": "votes", **{k: v for k, v in head.items() if k != "seal"}})
    return hmac.new(key, named, hashlib.sha256).hexdigest()


def _bytes(value: Any) -> bytes:
    return str(value).encode("utf-8", "backslashreplace")  # compare_digest takes no other text than ASCII
