"""What was done to a log of votes: every changed, missing, moved, copied or inserted entry, by its number and line."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from inhouse.arena.log_format import FIRST, Entry, Head, entry_of, read_head


class CheckedLog(NamedTuple):
    """The genuine entries in the order of their numbers, and a sentence for all that is not as it was written."""

    path: Path
    entries: tuple[Entry, ...]
    findings: tuple[str, ...]
    is_torn: bool  # an append was cut short; what it left was never counted

    def refuse(self) -> None:
        """Raises `ValueError` with all findings where there are any."""
        if self.findings:
            raise ValueError(f"{self.path}: not as it was written: {'; '.join(self.findings)}")


def check_log(path: Path, head: Path | None, key: bytes | None) -> CheckedLog:
    """Compare a log with its chain, its signatures and its head. Without a key nothing but the chain is checked."""
    stated, findings = _stated(head, key)  # before the log: whoever appends meanwhile writes the log first
    data = path.read_bytes() if path.is_file() else b""
    *lines, rest = data.split(b"\n")
    entries, of_lines = check_lines(lines, stated, key)
    if head is not None and stated is None and not findings and entries:
        findings.append(f"there is no head at {head}: whether the end was cut off cannot be told")
    return CheckedLog(path, entries, (*findings, *of_lines), bool(rest))


def check_lines(
    lines: Sequence[bytes], stated: Head | None, key: bytes | None
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The genuine entries among the lines of a log in the order of their numbers, and a sentence for all that is not as
    it was written, judged by the chain, the signatures and what the head says."""
    found = [entry_of(line, key) for line in lines]
    by_number: dict[int, Entry] = {}
    findings = _walk(found, by_number)
    last = max([*by_number, stated.count if stated else 0])
    missing = {number for number in range(1, last + 1) if number not in by_number}
    findings += _forged(found, missing) + _gone(missing, last) + _spliced(by_number)
    if stated and stated.count in by_number and by_number[stated.count].mac != stated.mac:
        findings.append(f"entry {stated.count} is not the one that the head names: another log stands here")
    return tuple(by_number[number] for number in sorted(by_number)), tuple(findings)


def _stated(head: Path | None, key: bytes | None) -> tuple[Head | None, list[str]]:
    try:
        return (None if head is None or key is None else read_head(head, key)), []
    except ValueError as error:
        return None, [str(error)]


def _walk(found: Sequence[Entry | None], by_number: dict[int, Entry]) -> list[str]:
    """Genuine entries by number; says which of them stand where they do not belong."""
    findings, highest = [], 0
    for line, entry in enumerate(found, 1):
        if entry is None:
            continue
        if entry.number in by_number:
            findings.append(f"line {line} is a copy of entry {entry.number}")
            continue
        if entry.number < highest:
            findings.append(f"entry {entry.number} was moved: it stands behind entry {highest}, on line {line}")
        by_number[entry.number], highest = entry, max(highest, entry.number)
    return findings


def _forged(found: Sequence[Entry | None], missing: set[int]) -> list[str]:
    """Lines without a signature: an entry that was changed where one is missing in that place, else one inserted.

    Takes the changed ones out of `missing`.
    """
    findings, before = [], 0
    for line, entry in enumerate(found, 1):
        if entry is not None:
            before = entry.number
        elif before + 1 in missing:
            before += 1
            missing.remove(before)
            findings.append(f"entry {before} was changed (line {line})")
        else:
            findings.append(f"line {line} was inserted")
    return findings


def _gone(missing: set[int], last: int) -> list[str]:
    """Entries that are nowhere, those that follow each other in one sentence."""
    findings, start = [], None
    for number in sorted(missing):
        start = number if start is None else start
        if number + 1 not in missing:
            what = f"entry {number} is" if start == number else f"entries {start} to {number} are"
            findings.append(f"{what} missing{' at the end' if number == last else ''}")
            start = None
    return findings


def _spliced(by_number: dict[int, Entry]) -> list[str]:
    """Genuine entries of another log under the same key."""
    findings = []
    for number, entry in by_number.items():
        before = by_number.get(number - 1)
        follows = FIRST if number == 1 else before.mac if before else entry.previous
        if entry.previous != follows:
            findings.append(f"entry {number} does not follow entry {number - 1}: one of them is of another log")
    return findings
