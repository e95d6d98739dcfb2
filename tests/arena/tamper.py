"""A small log of votes, and everything that somebody without the key can do to it."""

import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from inhouse.arena.log_format import canonical, mac
from inhouse.arena.tampering import check_log
from inhouse.arena.vote_log import VoteLog

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
KINDS_OF_TAMPERING = (
    "a vote changed", "a vote removed", "the tail cut", "two votes exchanged", "a vote forged and inserted",
    "a vote copied", "a vote of another log spliced in", "all written anew with another key", "head changed",
    "head removed", "log removed",
)  # fmt: skip


class Log(NamedTuple):
    """A log and its head, as bytes."""

    folder: Path
    lines: list[bytes]
    head: bytes


class Tampered(NamedTuple):
    """What somebody left; a finding names what was done where it has one of `named` in it."""

    lines: list[bytes] | None
    head: bytes | None
    named: tuple[str, ...]


def vote(left: str, right: str, winner: str, voter: str = "ann", **more: object) -> dict[str, object]:
    return {"left": left, "right": right, "winner": winner, "voter": voter, "voter_kind": "people", **more}


def make_log(folder: Path, votes: int) -> Log:
    """A log of three models and some votes, stored as it is in use."""
    draw = Random(0)
    log = VoteLog(folder / "votes.jsonl", folder / "kept" / "head.json", KEY)
    log.join(["a", "b", "c"])
    for _ in range(votes):
        left, right = draw.sample(["a", "b", "c"], 2)
        log.append([vote(left, right, draw.choice(["left", "right", "tie"]))])
    return Log(folder, log.path.read_bytes().splitlines(), log.head_path.read_bytes())


def tamper(log: Log, kind: str, draw: Random) -> Tampered:
    lines, n = list(log.lines), len(log.lines)
    at = draw.randrange(n)
    number = at + 1
    if kind == "a vote changed":
        lines[at] = _changed(lines[at], draw)
        return Tampered(lines, log.head, (f"entry {number} was changed (line {number})",))
    if kind == "a vote removed":
        del lines[at]
        return Tampered(lines, log.head, (f"entry {number} is missing",))
    if kind == "the tail cut":
        named = f"entries {number} to {n} are missing at the end" if at < n - 1 else f"entry {n} is missing at the end"
        rest = lines[at][: draw.randrange(len(lines[at]))]  # perhaps in the middle of a line
        return Tampered([*lines[:at], b"<cut>" + rest] if rest else lines[:at], log.head, (named,))
    if kind == "two votes exchanged":
        other = draw.choice([i for i in range(n) if i != at])
        lines[at], lines[other] = lines[other], lines[at]
        return Tampered(lines, log.head, tuple(f"entry {i + 1} was moved" for i in (at, other)))
    if kind == "a vote forged and inserted":
        entry = json.loads(lines[at])
        forged = {**entry, "body": vote("a", "b", draw.choice(["left", "right"]))}
        lines.insert(at, canonical(forged | {"mac": mac(OTHER_KEY, forged)}))
        return Tampered(lines, log.head, (f"line {number} was inserted",))
    if kind == "a vote copied":
        place = draw.randrange(n + 1)
        lines.insert(place, lines[at])
        return Tampered(lines, log.head, (f"is a copy of entry {number}",))
    if kind == "a vote of another log spliced in":
        lines[at] = _of_another_log(n)[at]
        return Tampered(lines, log.head, (f"entry {number} does not follow", f"entry {number + 1} does not follow",
                                          f"entry {number} is not the one that the head names"))  # fmt: skip
    if kind == "all written anew with another key":
        return Tampered(_of_another_log(n, OTHER_KEY), log.head, ("entry 1 was changed",))
    if kind == "head changed":
        head = json.loads(log.head) | {"count": draw.randrange(n)}
        return Tampered(lines, canonical(head), ("the head is not signed",))
    if kind == "head removed":
        return Tampered(lines, None, ("there is no head",))
    assert kind == "log removed"
    return Tampered(None, log.head, (f"entries 1 to {n} are missing at the end",))


def watch(log: Log, tampered: Tampered) -> tuple[tuple[str, ...], bool]:
    """What is found, and whether what was done is named."""
    path, head = log.folder / "tampered.jsonl", log.folder / "tampered.head.json"
    for file, content in ((path, tampered.lines), (head, tampered.head)):
        file.unlink(missing_ok=True)
        if isinstance(content, list):
            *whole, last = [*content, b""] if not content or not content[-1].startswith(b"<cut>") else content
            file.write_bytes(b"".join(line + b"\n" for line in whole) + last.removeprefix(b"<cut>"))
        elif content is not None:
            file.write_bytes(content)
    findings = check_log(path, head, KEY).findings
    return findings, any(name in finding for name in tampered.named for finding in findings)


def _changed(line: bytes, draw: Random) -> bytes:
    """Another winner, another voter, or any byte flipped."""
    entry, way = json.loads(line), draw.randrange(3)
    if way == 0 and entry["kind"] == "vote":
        entry["body"]["winner"] = draw.choice([w for w in ("left", "right", "tie") if w != entry["body"]["winner"]])
    elif way == 1:
        entry["body"]["voter"] = "eve"
    else:
        place = draw.randrange(len(line))
        byte = draw.choice([b for b in range(256) if b not in (line[place], 10)])
        return line[:place] + bytes([byte]) + line[place + 1 :]
    return canonical(entry)


def _of_another_log(length: int, key: bytes = KEY) -> list[bytes]:
    """A log of the same form that says something else, signed."""
    lines, previous = [], ""
    for number in range(1, length + 1):
        body = {"model": f"m{number}"} if number <= 3 else vote("b", "a", "left", "eve")
        entry = {"number": number, "previous": previous, "kind": "model" if number <= 3 else "vote", "body": body}
        previous = mac(key, entry)
        lines.append(canonical(entry | {"mac": previous}))
    return lines
